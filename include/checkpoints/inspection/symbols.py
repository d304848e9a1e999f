"""Symbols that represent the objects of a checkpoint; the objects themselves are never created."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Name:
    """The name of a class or function, as module.name."""

    path: str


@dataclass(eq=False)
class Instance:
    """An object of a class, with its attributes, created without calling the class."""

    path: str
    state: dict[str, Any] | None = None


@dataclass(eq=False)
class Storage:
    """The numbers in one entry of the archive."""

    items: int
    """How many numbers there are."""
    viewed: int = 0
    """Total number of elements in all tensors that view the storage."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """A view of a storage."""

    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Constant:
    """Any other value that a known function returns: a path, a device, a NumPy number."""

    kind: str
    value: Any = field(default=None)


class OrderedMapping(dict[Any, Any]):
    """An OrderedDict, which may carry PyTorch's `_metadata`."""

    metadata: Any = None

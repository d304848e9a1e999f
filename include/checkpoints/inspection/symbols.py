"""Symbols that represent the objects of a checkpoint; the objects themselves are never created."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

ConstantKind = Literal["bytes", "device", "dtype", "interpolation", "method", "number", "path"]


@dataclass(frozen=True)
class Name:
    """The name of a class or function."""

    path: str
    """The full name, as module.name."""


@dataclass(eq=False)
class Instance:
    """An object of a class, with its attributes, created without calling the class."""

    path: str
    """Full name of the class, as module.name."""
    state: dict[str, Any] | None = None
    """The attributes by name; None until the pickle sets them."""


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
    """Size of each dimension."""


@dataclass(frozen=True, eq=False)
class Constant:
    """Any other value that a known function returns."""

    kind: ConstantKind
    """What the value is."""
    value: Any = None
    """What is known of it: a path's or dtype's text, a name, or the number of bytes; None for other kinds."""


class OrderedMapping(dict[Any, Any]):
    """An OrderedDict, which may carry PyTorch's `_metadata`."""

    metadata: Any = None
    """The symbol of `_metadata`; None if the mapping has none."""

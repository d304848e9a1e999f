"""Arguments that are changed on purpose where a training is resumed: which, in words, and in the optimizer.

Most are read anew by each epoch. What the optimizer keeps of its own (learning rates, momentum, decay) comes
back with its state, so it is set again from an optimizer that was built with the new arguments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_CHANGE_NOTHING = {"workers", "patience", "time", "plots", "val", "cache", "verbose", "device"}
"""They decide how long, how fast, and what is shown; `time` has a reason of its own."""

_STRIDE = 32
"""Ultralytics rounds `imgsz` up to a multiple of it."""

_OF_GROUPS = {
    "lr0": ("initial_lr", "lr"),
    "momentum": ("momentum", "betas"),
    "weight_decay": ("weight_decay",),
}
"""What of a parameter group follows from an argument."""


def changed_arguments(given: Mapping[str, object], trained: Mapping[str, Any]) -> tuple[str, ...]:
    """Return which of the given arguments make the weights others than those of the training before."""
    return tuple(
        name
        for name, value in given.items()
        if name not in _CHANGE_NOTHING and not _is_same(name, value, trained.get(name))
    )


def reason_of(
    changed: Iterable[str], given: Mapping[str, object], trained: Mapping[str, Any], finished: int
) -> str | None:
    """Say why the weights are not those of one training with the same arguments; None if they are."""
    what = ", ".join(f"{name}={given[name]!r} instead of {trained.get(name)!r}" for name in changed)
    return f"trained from epoch {finished + 1} on with {what}" if what else None


def settings_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return what the optimizer has of its own for each group of parameters."""
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def apply_changes(
    changed: Iterable[str], fresh: Sequence[Mapping[str, Any]], optimizer: torch.optim.Optimizer
) -> None:
    """Set what follows from the changed arguments to what it is in `fresh`, by groups."""
    names = {each for name in changed for each in _OF_GROUPS.get(name, ())}
    for group, new in zip(optimizer.param_groups, fresh, strict=True):
        group.update({name: new[name] for name in names & new.keys()})


def _is_same(name: str, given: object, trained: object) -> bool:
    if name == "imgsz" and isinstance(given, int) and isinstance(trained, int):
        return math.ceil(given / _STRIDE) == math.ceil(trained / _STRIDE)
    if name == "batch" and not (isinstance(given, int) and given > 0):
        return True  # Ultralytics chooses, which is a reason of its own
    if name == "warmup_bias_lr" and trained == 0:
        return True  # optimizer=auto sets it to 0 whatever was given
    return given is None or given == trained

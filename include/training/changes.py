"""Find, describe and apply the arguments that a user changed on purpose when resuming a training run.

Most arguments take effect when the trainer is built. But restoring the optimizer's state overwrites its
settings (learning rates, momentum, decay), so the changed settings are then copied from an optimizer built
with the new arguments.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

KEPT = ("optimizer", "seed", "pretrained")
"""Arguments that cannot be changed when a training run is resumed; with optimizer=auto, the optimizer was
chosen when training started."""

_CHANGE_NOTHING = {"workers", "patience", "time", "plots", "val", "cache", "verbose", "device"}
"""Arguments that do not change the weights of any epoch, but only the number of epochs, the choice of the
best one, speed and output.

A run with `time` is always marked inexact."""

_STRIDE = 32
"""Ultralytics rounds `imgsz` up to a multiple of this."""

_GROUP_SETTINGS = {
    "lr0": ("initial_lr", "lr"),
    "momentum": ("momentum", "betas"),
    "weight_decay": ("weight_decay",),
}
"""For each of these arguments, the settings of a parameter group that it determines."""


def changed_arguments(given: Mapping[str, object], trained: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the `given` arguments that affect the weights and differ from the earlier run's."""
    return tuple(
        name
        for name, value in given.items()
        if name not in {*KEPT, *_CHANGE_NOTHING} and not _is_same(name, value, trained.get(name))
    )


def describe_changes(
    changed: Iterable[str], given: Mapping[str, object], trained: Mapping[str, Any], finished: int
) -> str | None:
    """Describe the changes that make the weights inexact; None if there are none."""
    what = ", ".join(f"{name}={given[name]!r} instead of {trained.get(name)!r}" for name in changed)
    return f"trained from epoch {finished + 1} on with {what}" if what else None


def optimizer_settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the optimizer's settings for each parameter group."""
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def apply_changes(
    changed: Iterable[str], fresh: Sequence[Mapping[str, Any]], optimizer: torch.optim.Optimizer
) -> None:
    """Copy from `fresh`, for each parameter group, the settings that the changed arguments determine."""
    names = {each for name in changed for each in _GROUP_SETTINGS.get(name, ())}
    for group, new in zip(optimizer.param_groups, fresh, strict=True):
        group.update({name: new[name] for name in names & new.keys()})


def _is_same(name: str, given: object, trained: object) -> bool:
    if name == "imgsz" and isinstance(given, int) and isinstance(trained, int):
        return math.ceil(given / _STRIDE) == math.ceil(trained / _STRIDE)
    if name == "batch" and not (isinstance(given, int) and given > 0):
        return True  # Ultralytics chooses the batch size, and the run is always marked inexact
    if name == "warmup_bias_lr" and trained == 0:
        return True  # optimizer=auto always sets it to 0
    return given is None or given == trained

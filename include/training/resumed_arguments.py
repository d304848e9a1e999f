"""The arguments of a resumed training run: those in its checkpoint, and those that a user changed on purpose.

Most arguments take effect when the trainer is built. The optimizer is also built with the changed arguments,
but restoring its state overwrites its settings (learning rates, momentum, decay). So its settings are copied
beforehand, and `apply_changes` then applies the changed ones again.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from include.refusals import show_value
from include.training.arguments import OURS, check_overrides, read_known_arguments
from include.training.contract import TrainingError, UnreadableCheckpoint

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from include.training.contract import TrainingRequest

log = logging.getLogger(__name__)

KEPT = ("optimizer", "seed", "pretrained")
"""Arguments that cannot be changed when a training run is resumed. With optimizer=auto, Ultralytics chose the
optimizer when training started."""

_CHANGE_NOTHING = {"workers", "patience", "time", "plots", "val", "cache", "verbose", "device"}
"""Arguments that do not change the weights after any epoch. They only change how many epochs are trained,
which one counts as the best, the speed, and the output.

A run with `time` is always marked inexact."""

_STRIDE = 32
"""Ultralytics rounds `imgsz` up to a multiple of this."""

_GROUP_SETTINGS = {
    "lr0": ("initial_lr", "lr"),
    "momentum": ("momentum", "betas"),
    "weight_decay": ("weight_decay",),
}
"""For each of these arguments, the settings of a parameter group that it determines."""


def select_trusted_arguments(
    request: TrainingRequest, trained: Mapping[str, Any], source: Path
) -> dict[str, Any]:
    """Return those training arguments in the checkpoint that are safe to use.

    Files that the arguments name are not opened. Raises UnreadableCheckpoint for invalid values, and
    TrainingError if the model was distilled from a teacher and the request does not name the same teacher.
    """
    table = read_known_arguments()
    known = {name: value for name, value in trained.items() if name in table or name in OURS}
    try:
        check_overrides({k: v for k, v in known.items() if v is not None and k not in OURS})
    except ValueError as error:
        raise UnreadableCheckpoint(f"{source} cannot be resumed: in its train_args, {error}") from None
    teacher = request.arguments.get("distill_model")
    if known.get("distill_model") not in {None, teacher}:
        raise TrainingError(
            f"{source} was distilled from the teacher {show_value(known['distill_model'])}, but a path in a "
            "checkpoint is not trusted; if it is correct, set distill_model to exactly this path"
        )
    return known


def recover_arguments(request: TrainingRequest, trained: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments as before the interruption, except workers, which do not affect weights."""
    arguments = _drop_workers_of_cpu(request, trained)
    if "workers" in request.arguments:
        arguments["workers"] = request.arguments["workers"]
    return arguments


def merge_arguments(request: TrainingRequest, trained: Mapping[str, Any], finished: int) -> dict[str, Any]:
    """Return the arguments of the earlier training run, with the changes that `request` makes to them.

    Raises TrainingError if they leave no epoch to train.
    """
    changes = dict(request.arguments)
    trained = _drop_workers_of_cpu(request, trained)
    for name in KEPT:
        value = changes.pop(name, None)
        if value not in {None, "auto", trained.get(name)}:
            log.warning("%s=%s is ignored: training continues with %s.", name, value, trained.get(name))
    arguments = {**trained, **changes}
    epochs = request.epochs or int(trained["epochs"])
    if arguments.get("time"):
        epochs = finished + 100  # as in a new run; Ultralytics corrects it after the first epoch
    elif epochs <= finished:
        raise TrainingError(
            f"epochs={epochs} leaves nothing to train: {request.resume_from} has finished {finished} epochs; "
            f"set epochs to more than {finished}"
        )
    return {**arguments, "epochs": epochs}


def find_changed_arguments(given: Mapping[str, object], trained: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the `given` arguments that affect the weights and differ from the earlier run's."""
    return tuple(
        name
        for name, value in given.items()
        if name not in {*KEPT, *_CHANGE_NOTHING} and not _is_same(name, value, trained.get(name))
    )


def describe_changes(
    changed: Iterable[str], given: Mapping[str, object], trained: Mapping[str, Any], finished: int
) -> str | None:
    """Return a description of the changes that make the weights inexact, or None if there are none."""
    what = ", ".join(f"{name}={given[name]!r} instead of {trained.get(name)!r}" for name in changed)
    return f"trained from epoch {finished + 1} on with {what}" if what else None


def copy_optimizer_settings(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Return the optimizer's settings for each parameter group."""
    return [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]


def apply_changes(
    changed: Iterable[str], fresh: Sequence[Mapping[str, Any]], optimizer: torch.optim.Optimizer
) -> None:
    """Copy from `fresh`, for each parameter group, the settings that the changed arguments determine."""
    names = {each for name in changed for each in _GROUP_SETTINGS.get(name, ())}
    for group, new in zip(optimizer.param_groups, fresh, strict=True):
        group.update({name: new[name] for name in names & new.keys()})


def _drop_workers_of_cpu(request: TrainingRequest, trained: Mapping[str, Any]) -> dict[str, Any]:
    """Drop workers=0, which Ultralytics sets on a CPU, if training continues on a GPU.

    Without workers, the GPU would wait for its data.
    """
    moves = request.device != "cpu" and trained.get("device") == "cpu"
    return {name: value for name, value in trained.items() if not (moves and name == "workers")}


def _is_same(name: str, given: object, trained: object) -> bool:
    if name == "imgsz" and isinstance(given, int) and isinstance(trained, int):
        return math.ceil(given / _STRIDE) == math.ceil(trained / _STRIDE)
    if name == "batch" and not (isinstance(given, int) and given > 0):
        return True  # Ultralytics chooses the batch size, and the run is always marked inexact
    if name == "warmup_bias_lr" and trained == 0:
        return True  # optimizer=auto always sets it to 0
    return given is None or given == trained

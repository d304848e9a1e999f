"""Loading a checkpoint without running what somebody may have pickled into it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.training.contract import NotResumable, UnreadableCheckpoint

BEST_EPOCH = "best_epoch"
"""Key of our own in a stripped best.pt: the epoch it was saved in, which stripping sets to -1."""


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says about itself.

    epoch is the last finished one, counted from 0, or None in a stripped file; epochs is the planned number.
    model is the YAML that the architecture was built from, such as yolo11n-seg.yaml. fitness is that of its
    epoch, best_fitness the best one up to it; either is None where there was no validation.
    """

    path: Path
    task: str
    model: str
    data: str
    epoch: int | None
    epochs: int
    has_optimizer: bool
    fitness: float | None
    best_fitness: float | None
    ultralytics_version: str

    @property
    def is_whole(self) -> bool:
        """Whether a training can continue from it."""
        return self.has_optimizer and self.epoch is not None


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load the file at `path` onto the CPU, as the dictionary that Ultralytics saved.

    Only tensors, plain values and Ultralytics' own model classes are built. Raises UnreadableCheckpoint for a
    file that is missing, damaged, or holds anything else.
    """
    from ultralytics.nn.tasks import torch_safe_load

    if not path.is_file():  # otherwise Ultralytics would look for the name elsewhere
        raise UnreadableCheckpoint(f"{path} does not exist; give the path of a checkpoint on this machine")
    try:
        state, _ = torch_safe_load(path, safe_only=True)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # whatever a damaged or planted file makes the unpickler raise
        raise UnreadableCheckpoint(
            f"{path} is not a checkpoint that can be loaded safely: it is damaged, or holds other objects "
            "than a model, its optimizer and plain values; nothing in it was run"
        ) from error
    if not isinstance(state, dict) or not isinstance(state.get("train_args"), dict):
        raise UnreadableCheckpoint(f"{path} holds no Ultralytics training; give a last.pt or best.pt")
    return state


def describe(path: Path, state: dict[str, Any]) -> CheckpointInfo:
    """Say what the checkpoint `state`, loaded from `path`, is."""
    arguments = state["train_args"]
    network = state.get("ema") or state.get("model")
    architecture = getattr(network, "yaml", None) or {}
    epoch = state.get("epoch", -1)
    return CheckpointInfo(
        path=path,
        task=str(arguments.get("task", "detect")),
        model=Path(str(architecture.get("yaml_file", ""))).name,
        data=str(arguments.get("data") or ""),
        epoch=epoch if epoch >= 0 else None,
        epochs=int(arguments.get("epochs") or 0),
        has_optimizer=bool(state.get("optimizer")),  # its `state` is empty until the first step
        fitness=_number((state.get("train_metrics") or {}).get("fitness")),
        best_fitness=_number(state.get("best_fitness")),
        ultralytics_version=str(state.get("version", "")),
    )


def inspect_checkpoint(path: Path) -> CheckpointInfo:
    """Say what the checkpoint at `path` is. Raises UnreadableCheckpoint."""
    return describe(path, load_checkpoint(path))


def load_training_state(path: Path, task: str | None = None) -> dict[str, Any]:
    """Load a checkpoint that a training of `task` (of any, if None) can continue from.

    Raises NotResumable for a stripped file or another task's, UnreadableCheckpoint for no checkpoint at all.
    """
    state = load_checkpoint(path)
    info = describe(path, state)
    if not info.is_whole:
        lacks = "has no epoch" if info.has_optimizer else "holds no optimizer state"
        raise NotResumable(
            f"{path} cannot be resumed: it {lacks}, because it was stripped for deployment; resume from a "
            "whole last.pt, or start a new training with this file as its model"
        )
    if task is not None and info.task != task:
        raise NotResumable(
            f"{path} is a training of task {info.task}, but task={task} was asked for; give task={info.task}"
        )
    return state


def require_resumable(path: Path, task: str | None = None) -> CheckpointInfo:
    """Say what the checkpoint at `path` is. Raises NotResumable where no training of `task` can continue."""
    return describe(path, load_training_state(path, task))


def _number(value: Any) -> float | None:
    return None if value is None else float(value)

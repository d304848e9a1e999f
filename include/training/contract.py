"""What goes into a training and what comes out of it: standard library only, read by both sides."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, get_args

from include.checkpoints.checkpoint import Checkpoint  # noqa: TC001 - dataclass fields are read at run time
from include.errors import AttemptError, FinalError
from include.training.heartbeat import Heartbeats  # noqa: TC001
from include.training.loss_rules import NO_RULES, LossRules  # noqa: TC001

Task = Literal["detect", "segment", "classify", "pose", "obb"]
TASKS: tuple[Task, ...] = get_args(Task)

StopReason = Literal["completed", "early_stopping", "time_budget", "stopped"]
"""Why a training ended; "stopped" by its reporter. All but "completed" may leave epochs untrained."""

MODEL_SUFFIX = {"detect": "", "segment": "-seg", "classify": "-cls", "pose": "-pose", "obb": "-obb"}
"""What the name of a task's model ends with: Ultralytics builds the head from it, whatever `task` says."""


class TrainingError(FinalError):
    """A training that cannot go on, with a sentence for the person who reads the task's log."""


class DeviceNotAvailable(TrainingError):
    """The requested device does not exist on this machine."""


class MachineUnusable(AttemptError):
    """The machine cannot be used now. Later, or on another machine, the training goes on."""


class NoGpuFree(MachineUnusable):
    """Other trainings have all GPUs that this one may take, an attempt of its own perhaps that is ending."""


class GpuLost(MachineUnusable):
    """The machine has a GPU, or the training had one, and none can be used."""


class MemoryTaken(MachineUnusable):
    """Memory ran out where it was enough before: somebody else uses it."""


class MemoryShort(MachineUnusable):
    """The training has grown until the machine's memory is nearly used up: the next attempt has room."""


class ProcessKilled(AttemptError):
    """A process of the training was killed: by the kernel where memory is short, by a crash, by somebody.

    The attempt counts as one that was killed as a whole.
    """


class DiskError(AttemptError):
    """The machine's disk does not take a checkpoint. Another machine's may."""


class NotResumable(TrainingError):
    """The file holds no training state (it was stripped, say): nothing can continue from it."""


class StateMismatch(NotResumable):
    """The state is of another training than the one that is to go on."""


class UnreadableCheckpoint(NotResumable):
    """The file is missing, damaged, no checkpoint, or holds objects that a checkpoint has no use for."""


def require_task(name: str) -> Task:
    """Return the task of that name. Raises TrainingError."""
    for task in TASKS:
        if task == name:
            return task
    raise TrainingError(f"task={name!r} is unknown; give one of {', '.join(TASKS)}")


@dataclass(frozen=True)
class TrainingRequest:
    """One training, in Ultralytics' own words. Nothing is ever downloaded.

    With `resume_from` the training continues at the next epoch with the checkpoint's own model, optimizer and
    arguments. With `recover` as well it goes on as if nothing had happened: `resume_from` is then this very
    training's state, left by an attempt that was interrupted, and no argument changes. Where it had ended
    already, only the final validation is done.
    """

    task: Task
    """What the model does."""
    model: str
    """Name or YAML of an architecture, which is trained from scratch, or path of a .pt on this machine."""
    data: Path
    """What Ultralytics takes as `data`: a YAML file, or a directory for classify."""
    save_dir: Path
    """Folder for the results, with weights/ in it: `{TRAINING_ROOT}/{job_id}/runs/train`."""
    epochs: int | None = None
    """Total number of epochs; with `resume_from` it may be larger than in the checkpoint. None: Ultralytics'
    default, or as in the checkpoint."""
    device: str | None = None
    """auto (or None), cpu, mps, a GPU's number, or several ("0,1") that share every batch."""
    arguments: Mapping[str, object] = field(default_factory=dict)
    """All other Ultralytics training arguments that were given. With `resume_from` these are what changes on
    purpose (lr0, batch, workers, patience, …); the reports then say so in inexact_reason. Optimizer and seed
    stay as they were, and a patience that the checkpoint has used up begins anew."""
    resume_from: Path | None = None
    """A whole last.pt to continue from; it is only read."""
    best_from: Path | None = None
    """The best.pt that belongs to `resume_from`: it stays the best until an epoch beats it. Without it the
    best of the resumed epochs becomes best.pt."""
    identity: Mapping[str, object] = field(default_factory=dict)
    """What makes this training this one, in plain values; it is kept in last.pt. With `recover` a state of
    another identity is refused."""
    recover: bool = False
    """Whether `resume_from` is this training's own state."""
    stop: bool = False
    """Whether a training that recovers is to end at once, with the final validation."""
    loss_rules: LossRules = NO_RULES
    """What happens where the loss jumps or is not a number."""
    heartbeats: Heartbeats | None = None
    """Where each process shows that it is alive; None if nobody looks."""


@dataclass(frozen=True)
class EpochReport:
    """The numbers of one finished epoch. None stands for one that is not finite."""

    epoch: int
    """Counted from 0."""
    epochs: int
    """Planned number of epochs."""
    metrics: Mapping[str, float | None]
    """By Ultralytics' names, as in results.csv (`train/box_loss`, `metrics/mAP50(B)`, `lr/pg0`). An epoch
    without validation (`val=false`) has no validation metrics."""
    fitness: float | None
    """What Ultralytics compares epochs by; None also without validation."""
    seconds: float
    """What the epoch took, with its validation."""
    eta_seconds: float
    """What the remaining epochs will take, at the average of this attempt."""
    is_best: bool
    """Whether best.pt is of this epoch."""
    inexact_reason: str | None
    """Why the weights may differ from those of an uninterrupted training; None while they do not."""
    trained_seconds: float = 0.0
    """As in Progress."""


class EpochReporter(Protocol):
    """Takes each finished epoch's numbers. An exception it raises ends the training."""

    def report(self, epoch: EpochReport) -> bool:
        """Record `epoch`; say whether to go on.

        last.pt holds its state already, unless a StateReporter is told of that. Where it answers False the
        training ends with this epoch, and last.pt can be resumed.
        """


@dataclass(frozen=True)
class Progress:
    """How far a training is: after each batch, and when the last batch of an epoch is to be validated."""

    epoch: int
    """Last finished epoch, from 0; -1 before the first."""
    batch: int
    """Number of batches after it that are finished."""
    batches: int
    """Number of batches in that epoch."""
    trained_seconds: float
    """Time since the training began that went into its state, in all attempts; without what was lost."""
    is_repeated: bool = False
    """Whether the epoch is trained once more, after a NaN or with half the batch. No state within it is
    saved, because one of the first time would seem to be newer."""


@dataclass(frozen=True)
class SavedState:
    """What last.pt holds."""

    epoch: int
    """Last finished epoch in it, from 0; -1 before the first."""
    batch: int
    """Number of batches after it that are in the state; 0 at an epoch's end."""
    is_best: bool
    """Whether best.pt is to be made of it: no epoch before was better."""
    trained_seconds: float
    """As in Progress."""


class StateReporter(Protocol):
    """Decides when a state is saved within an epoch, and takes each one. What it raises ends the training."""

    def progress(self, progress: Progress) -> bool:
        """Say whether the state is to be saved now; asked after each batch, in the training's thread.

        It is then saved in the background, but for one that is asked for while another is being written: that
        is left out, and the question comes again after the next batch.
        """

    def saved(self, state: SavedState) -> None:
        """Take the state that last.pt holds as long as this does not return; called in a thread of its own.

        last.pt may not be changed, and is replaced by the next state under a new inode.
        """


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training leaves behind. Epochs are counted from 0."""

    best: Checkpoint
    """The deployable best.pt, stripped of its training state."""
    last: Checkpoint
    """The whole training state."""
    epoch: int
    """Last finished epoch."""
    best_epoch: int
    """Epoch that best.pt was saved in."""
    epochs: int
    """Planned number of epochs; fewer ran where stop_reason is not "completed"."""
    start_epoch: int
    """First epoch of this attempt."""
    metrics: Mapping[str, float | None]
    """Of best.pt on the validation split, by Ultralytics' names, as in results.csv."""
    fitness: float | None
    """Of best.pt on the validation split."""
    stop_reason: StopReason
    """Why the training ended."""
    seconds: float
    """What the loop and the final validation took."""
    device: str
    """What it ran on: "cpu", "cuda:0 (NVIDIA H200)" or "cuda:0 (NVIDIA H200) and 1 more"."""
    ultralytics_version: str
    """Version of Ultralytics that trained."""

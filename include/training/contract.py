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
    """One training, in Ultralytics' own words.

    task is one of detect, segment, classify, pose, obb. model is a name, a YAML or a .pt on this machine; a
    name or a YAML is trained from scratch, nothing is ever downloaded. data is what Ultralytics takes as
    `data`: a YAML file, or a directory for classify. weights/ is made below save_dir, which is
    `{TRAINING_ROOT}/{job_id}/runs/train`. device is auto (or None), cpu, mps, a GPU's number, or several
    ("0,1") that share every batch. arguments are all other Ultralytics training arguments that were given.

    With `resume_from` (a whole last.pt, only read) the training continues at the next epoch with the
    checkpoint's own model, optimizer and arguments; `epochs` may then be larger than in the checkpoint, and
    `arguments` holds what changes on purpose (lr0, batch, workers, patience, …; optimizer and seed stay as
    they were). inexact_reason of the reports then names what makes the weights others. `best_from` is the
    best.pt that belongs to it: it stays the best until an epoch beats it. Without it the best of the resumed
    epochs becomes best.pt. A patience that the checkpoint has used up begins anew.

    identity is what makes this training this one, in plain values; it is kept in last.pt. With `recover`,
    `resume_from` is this very training's state, left by an attempt that was interrupted: the training goes on
    as if nothing had happened, with no argument changed; where it had ended already, only the final
    validation is done, and with `stop` so it is in any case. A state of another identity is refused.

    loss_rules says what happens where the loss jumps or is not a number. heartbeats says where each process
    shows that it lives, if anybody looks.
    """

    task: Task
    model: str
    data: Path
    save_dir: Path
    epochs: int | None = None
    device: str | None = None
    arguments: Mapping[str, object] = field(default_factory=dict)
    resume_from: Path | None = None
    best_from: Path | None = None
    identity: Mapping[str, object] = field(default_factory=dict)
    recover: bool = False
    stop: bool = False
    loss_rules: LossRules = NO_RULES
    heartbeats: Heartbeats | None = None


@dataclass(frozen=True)
class EpochReport:
    """The numbers of one finished epoch.

    epoch counts from 0; epochs is the planned number. metrics holds Ultralytics' names as they are in
    results.csv (`train/box_loss`, `metrics/mAP50(B)`, `lr/pg0`); a number that is not finite is None, and an
    epoch without validation (`val=false`) has neither validation metrics nor fitness. seconds is what the
    epoch took with its validation; eta_seconds is what the remaining epochs will take at the average of this
    attempt. is_best tells that best.pt is of this epoch. inexact_reason is None while an interrupted training
    ends with the weights of an uninterrupted one, or the reason why that is not promised any more.
    trained_seconds is as in Progress.
    """

    epoch: int
    epochs: int
    metrics: Mapping[str, float | None]
    fitness: float | None
    seconds: float
    eta_seconds: float
    is_best: bool
    inexact_reason: str | None
    trained_seconds: float = 0.0


class EpochReporter(Protocol):
    """Takes each finished epoch's numbers. An exception it raises ends the training."""

    def report(self, epoch: EpochReport) -> bool:
        """Record `epoch`; say whether to go on.

        last.pt holds its state already, unless a StateReporter is told of that. Where it answers False the
        training ends with this epoch, and last.pt can be resumed.
        """


@dataclass(frozen=True)
class Progress:
    """How far a training is: after each batch, and when its last batch of an epoch is to be validated.

    epoch is the last finished one, from 0, or -1; batch is how many batches of the one after it are finished,
    of `batches`. trained_seconds is the time that went into them since the training began, in all attempts,
    without what was lost. is_repeated tells that the epoch is trained once more, after a NaN or with half the
    batch: no state within it is saved, because one of the first time would seem to be newer.
    """

    epoch: int
    batch: int
    batches: int
    trained_seconds: float
    is_repeated: bool = False


@dataclass(frozen=True)
class SavedState:
    """What last.pt holds: the state after `batch` batches (0: none) of the epoch that comes after `epoch`.

    is_best tells that best.pt is to be made of it: no epoch before was better.
    """

    epoch: int
    batch: int
    is_best: bool
    trained_seconds: float


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
    """What a finished training leaves behind.

    best is the stripped, deployable best.pt; last is the whole training state. epoch is the last finished
    one, counted from 0; best_epoch is the one best.pt was saved in, also from 0; start_epoch is the first
    one of this attempt; epochs is the planned number: fewer ran when stop_reason is "early_stopping",
    "time_budget" or "stopped" (by the reporter) instead of "completed". metrics and fitness are those of
    best.pt on the validation split, names as in results.csv. device is what it ran on, such as "cpu",
    "cuda:0 (NVIDIA H200)" or "cuda:0 (NVIDIA H200) and 1 more".
    """

    best: Checkpoint
    last: Checkpoint
    epoch: int
    best_epoch: int
    epochs: int
    start_epoch: int
    metrics: Mapping[str, float | None]
    fitness: float | None
    stop_reason: StopReason
    seconds: float
    device: str
    ultralytics_version: str

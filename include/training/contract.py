"""The input and output of a training run.

This module imports neither torch nor Ultralytics, because Airflow's processes import it too.
"""

from __future__ import annotations

import errno
import math
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, SupportsFloat

from include.checkpoints.checkpoint import Checkpoint  # noqa: TC001 - dataclass fields are read at run time
from include.datasets.disk import is_passing
from include.errors import AttemptError, FinalError
from include.training.heartbeat import Heartbeats  # noqa: TC001
from include.training.loss_rules import NO_RULES, LossRules  # noqa: TC001
from include.ultralytics_tasks import TASKS, Task  # noqa: TC001 - dataclass fields are read at run time

StopReason = Literal["completed", "early_stopping", "time_budget", "stopped"]
"""Why a training run ended; "stopped" means that its reporter, or `was_stopped` in its request, ended it.
Unless the reason is "completed", fewer epochs than planned may have run."""

MODEL_SUFFIX: Mapping[Task, str] = {
    "detect": "",
    "segment": "-seg",
    "semantic": "-sem",
    "depth": "-depth",
    "classify": "-cls",
    "pose": "-pose",
    "obb": "-obb",
}
"""The suffix of each task's model names. Ultralytics chooses a model's head by its name, not by `task`."""


class TrainingError(FinalError):
    """A training run cannot continue; the message is for the person who reads the task's log."""


class DeviceNotAvailable(TrainingError):
    """The requested device does not exist on this machine."""


class MachineUnusable(AttemptError):
    """The machine cannot be used now. Training continues later or on another machine."""


class NoGpuFree(MachineUnusable):
    """Other training runs, or an earlier attempt of this one, hold all GPUs that it could use."""


class GpuLost(MachineUnusable):
    """The GPU failed, or none can be used although the machine has one or the training run had one before."""


class MemoryTaken(MachineUnusable):
    """Memory ran out, although there was enough before: another process is using it."""


class MemoryShort(MachineUnusable):
    """Training has used nearly all of the machine's memory; the next attempt starts with free memory."""


class ProcessKilled(AttemptError):
    """A training process was killed: by the kernel because memory ran out, by a crash, or by a person.

    The whole attempt then counts as killed.
    """


_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES, errno.EPERM}
"""Error numbers for a disk that is full, read-only or broken, and for folders that this user may not write
to."""


def is_disk_error(error: BaseException) -> bool:
    """Return whether `error` concerns this machine's disk, folders or network shares.

    An SSLError never does, because its errno is an error number of OpenSSL. Shares and network connections
    fail with the same error numbers, but only the errors of a share name a file.
    """
    if not isinstance(error, OSError) or isinstance(error, ssl.SSLError):
        return False
    return error.errno in _DISK_ERRORS or (error.filename is not None and is_passing(error))


class DiskError(AttemptError):
    """A checkpoint could not be written to this machine's disk, or checked data could not be read from it.

    Also raised if the machine's shared memory is full. Another machine may have room, and access to the data.
    """


class NotResumable(TrainingError):
    """The file holds the state of another task, or no state at all, for example because it was stripped."""


class StateMismatch(NotResumable):
    """The state belongs to a training run other than the one to continue."""


class UnreadableCheckpoint(NotResumable):
    """The file is missing, damaged, not a checkpoint, or holds objects that no checkpoint needs."""


def require_task(name: str) -> Task:
    """Return the task of that name. Raises TrainingError."""
    for task in TASKS:
        if task == name:
            return task
    raise TrainingError(f"task={name!r} is unknown; give one of {', '.join(TASKS)}")


def normalize_metrics(metrics: Mapping[str, SupportsFloat]) -> dict[str, float | None]:
    """Return the metrics as plain numbers; None replaces numbers that are not finite, which JSON lacks."""
    numbers = {name: float(value) for name, value in metrics.items()}
    return {name: value if math.isfinite(value) else None for name, value in numbers.items()}


@dataclass(frozen=True)
class TrainingRequest:
    """One training run, in the terms that Ultralytics uses. Nothing is ever downloaded.

    With `resume_from`, training continues at the next batch with the checkpoint's model, optimizer and
    arguments. With `recover` as well, training continues as if it had never been interrupted. `resume_from`
    is then this training run's own state, which an interrupted attempt left, and all `arguments` except
    workers are ignored. If all epochs were trained already, only the final validation is done.
    """

    task: Task
    """The task of the model."""
    model: str
    """Name or YAML of an architecture to train from scratch, or path of a local .pt to start from."""
    data: Path
    """Ultralytics' `data`: a YAML file, or a directory for classify."""
    save_dir: Path
    """Folder for the results, with weights/ in it: `{TRAINING_ROOT}/{job_id}/runs/train`."""
    epochs: int | None = None
    """Total number of epochs; with `resume_from` it may be larger than in the checkpoint. If None, the
    checkpoint's number or, without `resume_from`, Ultralytics' default."""
    device: str | None = None
    """auto (or None), cpu, mps, a GPU's number, or several numbers ("0,1") of GPUs that share every batch."""
    arguments: Mapping[str, object] = field(default_factory=dict)
    """All other training arguments of Ultralytics that were given. With `resume_from`, they are deliberate
    changes (lr0, batch, workers, patience, …), and inexact_reason in the reports names those that affect the
    weights. The arguments in KEPT (resumed_arguments.py) cannot be changed. If the earlier training run had
    used up its patience, the count of epochs without improvement starts over."""
    resume_from: Path | None = None
    """A last.pt with the complete state to continue from. It is only read: new states go to save_dir."""
    best_from: Path | None = None
    """The best.pt that belongs to `resume_from`; it is kept until an epoch is better. If this is None,
    `resume_from` itself becomes best.pt if its last epoch was the best so far. Otherwise, the best of the
    following epochs becomes best.pt."""
    identity: Mapping[str, object] = field(default_factory=dict)
    """Plain values that identify this training run; last.pt stores them. With `recover`, a state with a
    different identity is refused."""
    recover: bool = False
    """Whether `resume_from` is this training run's own state."""
    was_stopped: bool = False
    """Whether a user has stopped the recovered training run: only its final validation is left."""
    loss_rules: LossRules = NO_RULES
    """What to do if the loss jumps or is not a number."""
    heartbeats: Heartbeats | None = None
    """Where each process writes its heartbeats; None if no watchdog reads them."""


@dataclass(frozen=True)
class EpochReport:
    """The metrics of one finished epoch. A number that is not finite becomes None."""

    epoch: int
    """Number of the epoch, counted from 0."""
    epochs: int
    """Planned number of epochs."""
    metrics: Mapping[str, float | None]
    """Metrics by Ultralytics' names, as in results.csv (`train/box_loss`, `metrics/mAP50(B)`, `lr/pg0`). An
    epoch without validation (`val=false`) has no validation metrics."""
    fitness: float | None
    """The number by which Ultralytics compares epochs; None if it is not finite, or if the epoch had no
    validation."""
    seconds: float
    """Time since the end of the previous epoch, including validation and saving. If several attempts trained
    the epoch, their times are added."""
    eta_seconds: float
    """Expected duration of the remaining epochs, estimated from the average epoch of this attempt."""
    is_best: bool
    """Whether this epoch's weights are best.pt."""
    inexact_reason: str | None
    """Why the weights may differ from those of an uninterrupted training run; None if they are the same."""
    trained_seconds: float
    """The same as `TrainingProgress.trained_seconds`."""


class EpochReporter(Protocol):
    """Receives the metrics of each finished epoch. An exception that it raises ends training."""

    def report(self, epoch: EpochReport) -> bool:
        """Record `epoch`; return whether to continue.

        Without a StateReporter, last.pt already holds the state of this epoch. If this returns False,
        training ends with this epoch, and can be resumed from last.pt.
        """


@dataclass(frozen=True)
class TrainingProgress:
    """The position of a training run after a batch; after an epoch's last batch, validation comes next."""

    epoch: int
    """Last finished epoch, from 0; -1 before the first."""
    batch: int
    """Number of batches finished after that epoch."""
    batches: int
    """Number of batches in the current epoch."""
    trained_seconds: float
    """Seconds of training and validation over all attempts, excluding work that was lost when an attempt was
    killed."""
    is_repeated: bool = False
    """Whether the epoch is repeated, after a NaN or with half the batch size. No state is saved within a
    repeated epoch: a state that the first pass saved after more batches would look newer."""


@dataclass(frozen=True)
class SavedState:
    """The state that last.pt holds."""

    epoch: int
    """Last epoch that was finished in this state, from 0; -1 before the first."""
    batch: int
    """Number of batches finished after that epoch; 0 at an epoch's end."""
    is_best: bool
    """Whether best.pt holds this state's weights, ready to deploy, because no earlier epoch was better. With
    val=false, this is always False."""
    trained_seconds: float
    """The same as `TrainingProgress.trained_seconds`."""


class StateReporter(Protocol):
    """Decides when states are saved within an epoch, and receives all saved states.

    An exception that it raises ends training.
    """

    def report_progress(self, progress: TrainingProgress) -> bool:
        """Return whether to save the state now.

        Called after each batch or, with several GPUs, twice a second, in the thread that called `train`. If
        this returns True, the state is saved in the background. If it cannot be saved yet, for example
        because another state is still being written, the reporter is asked again later.
        """

    def report_state(self, state: SavedState) -> None:
        """Receive the state in last.pt, which stays there until this returns.

        Called in a background thread or, with several GPUs, in the thread that called `train`. The reporter
        must not change last.pt. The next state is written to a new file, and that file then replaces last.pt.
        """


@dataclass(frozen=True)
class TrainingResult:
    """The outcome of a finished training run. Epochs are counted from 0."""

    best: Checkpoint
    """The deployable best.pt, stripped of its training state."""
    last: Checkpoint
    """The complete training state."""
    epoch: int
    """Last finished epoch; -1 if training was stopped before one was finished."""
    best_epoch: int
    """Epoch in which best.pt was saved; -1 if no epoch was finished, or if best.pt is from plain Ultralytics
    and does not record its epoch."""
    epochs: int
    """Planned number of epochs; fewer may have run if stop_reason is not "completed"."""
    start_epoch: int
    """First epoch of this attempt."""
    metrics: Mapping[str, float | None]
    """Metrics of best.pt on the validation split, by Ultralytics' names, as in results.csv."""
    fitness: float | None
    """Fitness of best.pt on the validation split."""
    stop_reason: StopReason
    """Why training ended."""
    seconds: float
    """Duration of the whole call to `train`, from the check of the request to the final validation."""
    device: str
    """The device that trained: "cpu", "cuda:0 (NVIDIA H200)" or "cuda:0 (NVIDIA H200) and 1 more"."""
    ultralytics_version: str
    """Version of Ultralytics that trained the model."""

"""A training job as it is recorded: one row of `training_jobs` and its finished epochs."""

from __future__ import annotations

from datetime import datetime
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

from include.jobs.recorded_checkpoint import RecordedCheckpoint

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import CheckpointKind, Position

TRAINING_DAG = "train_yolo"
"""The Dag that trains. What other runs train was trained elsewhere."""


class JobStatus(StrEnum):
    """What a job is doing, as far as its row knows. Whether it still runs, Airflow knows.

    A job is queued until it has its GPU, and runs from then on, also between two attempts. A queued job
    without a run was written by a platform and waits for its first run.
    """

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def is_active(self) -> bool:
        """Whether a job of this status waits or runs."""
        return self in {JobStatus.QUEUED, JobStatus.RUNNING}

    @property
    def has_ended(self) -> bool:
        """Whether it neither waits nor runs."""
        return not self.is_active

    @property
    def has_ended_well(self) -> bool:
        """Whether it was completed, or stopped on purpose: both checkpoints are recorded."""
        return self in {JobStatus.COMPLETED, JobStatus.STOPPED}


class StopRequest(Enum):
    """Whether a job is to stop, and when: at the end of its epoch, or after the batch that it is in."""

    NONE = "none"
    AFTER_EPOCH = "after_epoch"
    NOW = "now"

    @classmethod
    def of(cls, requested: bool, after_epoch: bool) -> StopRequest:
        """Return what the two columns of a row say."""
        if not requested:
            return cls.NONE
        return cls.AFTER_EPOCH if after_epoch else cls.NOW


def _object_or_none(value: object) -> object:
    return value if isinstance(value, dict) else None


# In a row that only the platform has written so far, a JSON column may hold anything.
JsonObject = Annotated[dict[str, Any] | None, BeforeValidator(_object_or_none)]


class TrainingJob(BaseModel):
    """One row of `training_jobs`.

    Epochs are counted from 0. Sizes are in bytes, hashes are SHA-256 of the whole file in lower-case hex.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    job_id: str
    """Name of the job, and of its checkpoints in S3."""
    status: str | None
    """A JobStatus, or whatever an existing platform wrote in a row that was never trained here."""
    stop_requested: bool
    """Whether somebody asked that the job stops, after the batch that it is in."""
    stop_after_epoch: bool
    """Whether a job that is to stop first finishes its epoch."""
    dag_id: str | None
    """Dag of the run that owns the job."""
    run_id: str | None
    """Run that owns the job; None until the first one takes it."""
    origin_run_id: str | None
    """Run that began this training from its start. Objects in S3 belong to the training if their metadata
    names it."""
    attempt: int | None
    """Try number of the task `train` in the run that owns the job; None until one began."""
    parent_job_id: str | None
    """Job whose training this one continues, or whose weights it started from."""
    resumed_epoch: int | None
    """Last epoch of the parent, after which this job continues; None where only its weights were taken."""
    initial_weights_path: str | None
    """File in S3 that the training started from; None where it started from scratch."""
    initial_weights_sha256: str | None
    """Hash of that file."""
    spec: JsonObject
    """The parameters, as `ResolvedSpec` writes them."""
    epoch: int | None
    """Last finished epoch."""
    epoch_batch: int | None
    """Number of batches that are trained after it."""
    epoch_batches: int | None
    """Number of batches in an epoch."""
    durable_epoch: int | None
    """Last finished epoch in the newest state that was verified in S3; -1 for one within the first epoch."""
    durable_batch: int | None
    """Number of batches after it in that state."""
    epochs: int | None
    """Planned number of epochs."""
    trained_seconds: float | None
    """Training time that counts, without what was repeated."""
    lost_seconds: float | None
    """Training time that had to be repeated."""
    metrics: JsonObject
    """Metrics of the last epoch while the job runs, then those of best.pt, named as in results.csv."""
    best_checkpoint_path: str | None
    """URI of best.pt; None until it is recorded."""
    best_checkpoint_sha256: str | None
    """Its hash; None where a platform recorded the path."""
    best_checkpoint_size: int | None
    """Its size; None where a platform recorded the path."""
    last_checkpoint_path: str | None
    """URI of last.pt; None until it is recorded, and after it expired."""
    last_checkpoint_sha256: str | None
    """Its hash; None where a platform recorded the path."""
    last_checkpoint_size: int | None
    """Its size; None where a platform recorded the path."""
    last_checkpoint_expired_at: datetime | None
    """When the retention policy gave up last.pt; None while it is kept."""
    origin: str | None
    """Where it was trained: "external" for outside Airflow, None for here."""
    checkpoint_uploader: str | None
    """Who said that the checkpoints of such a job are complete."""
    checkpoint_finding: str | None
    """Why they cannot be loaded here; None if they can."""
    pinned: bool
    """Whether somebody wants last.pt kept for ever."""
    archived_at: datetime | None
    """When somebody archived the job; None for one that is not. A new run takes it out of the archive."""
    inexact_reason: str | None
    """Why the weights may differ from those of an uninterrupted training; None while they do not."""
    error: str | None
    """Why the job failed."""
    triggered_by: str | None
    """User who triggered the run."""
    created_at: datetime | None
    """When the row was created."""
    queued_at: datetime | None
    """When the job last began to wait for its GPU."""
    waited_seconds: float | None
    """Time spent waiting for a GPU, without a wait that has not ended."""
    machine: str | None
    """Host name of the newest attempt."""
    gpu_name: str | None
    """GPU of the newest attempt; "CPU" without one."""
    gpu_driver: str | None
    """Version of its driver."""
    started_at: datetime | None
    """When the job first had its GPU."""
    completed_at: datetime | None
    """When the job was completed; None for any other status."""
    updated_at: datetime | None
    """When the row was last written."""

    def checkpoint(self, kind: CheckpointKind) -> RecordedCheckpoint | None:
        """Return what is recorded of best.pt or last.pt; None where no path is."""
        return RecordedCheckpoint.of(self, kind)

    @property
    def known_status(self) -> JobStatus | None:
        """The status, or None for one that only a platform knows."""
        return JobStatus(self.status) if self.status in set(JobStatus) else None

    @property
    def is_active(self) -> bool:
        """Whether it waits or runs."""
        return self.known_status is not None and self.known_status.is_active

    @property
    def has_ended(self) -> bool:
        """Whether it was trained, and neither waits nor runs."""
        return self.known_status is not None and self.known_status.has_ended

    @property
    def has_ended_well(self) -> bool:
        """Whether it was completed, or stopped on purpose."""
        return self.known_status is not None and self.known_status.has_ended_well

    @property
    def durable(self) -> Position | None:
        """How far the newest state is that was verified in S3; None before the first."""
        return None if self.durable_epoch is None else (self.durable_epoch, self.durable_batch or 0)

    @property
    def waits_for_gpu(self) -> bool:
        """Whether a run owns it and waits for a GPU."""
        return self.status == JobStatus.QUEUED and self.run_id is not None

    @property
    def has_own_state(self) -> bool:
        """Whether a state of its own is in S3, beyond the one that it continues."""
        if self.durable is None:
            return False
        return self.resumed_epoch is None or self.durable > (self.resumed_epoch, 0)


class RecordedEpoch(BaseModel):
    """One row of `training_epochs`. None stands for a number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    epoch: int
    """Counted from 0."""
    metrics: dict[str, float | None]
    """By Ultralytics' names, as in results.csv."""
    fitness: float | None
    """What Ultralytics compares epochs by; None also without validation."""
    seconds: float | None
    """What the epoch took, with its validation."""
    eta_seconds: float | None
    """What the remaining epochs were expected to take when it ended."""
    recorded_at: datetime
    """When it was recorded for the last time: a new attempt may repeat it."""

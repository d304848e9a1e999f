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

    status is a JobStatus, or whatever an existing platform wrote in a row that was never trained here.
    The owner is the run `run_id` of Dag `dag_id`, and in it try number `attempt` of the task `train`
    (None until one began). origin_run_id is the run that began this training from its start: objects in
    S3 belong to the training if their metadata names that run. initial_weights_path and _sha256 are the
    file in S3 that the training began with, None where it began from scratch. Where its weights are those of
    another job, parent_job_id is that job and resumed_epoch is None. epoch is the last finished one,
    resumed_epoch the parent's last one, which a job with a parent continues after; both from 0; epochs is
    the planned number. epoch_batch is how many batches after it are trained, of epoch_batches.
    durable_epoch and durable_batch say the same of the newest state that was verified in S3: in the first
    epoch durable_epoch is -1. trained_seconds is the training that counts, lost_seconds the training that
    had to be repeated. A job that is to stop ends after the batch it is in, or with stop_after_epoch at
    the end of its epoch. inexact_reason is None while the weights are those of a training that was never
    interrupted, else the sentence why that is not promised. Sizes are in bytes, hashes SHA-256 in lower-
    case hex. queued_at is when the job began to wait for its GPU, for the last time; waited_seconds is how
    long it has waited in all, without a wait that goes on; started_at is when it first had its GPU.
    machine, gpu_name ("CPU" without a GPU) and gpu_driver are those of its newest attempt. completed_at is
    set for completed jobs only, last_checkpoint_expired_at for jobs whose last.pt was given up by the
    retention policy; pinned is set by people, and keeps it for ever. archived_at is when somebody archived
    the job, None for one that is not: a new run of it takes it out of the archive. origin is "external"
    where the checkpoints are not of a training here: checkpoint_uploader said that they are complete, and
    checkpoint_finding tells why they cannot be loaded here, if they cannot.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    job_id: str
    status: str | None
    stop_requested: bool
    stop_after_epoch: bool
    dag_id: str | None
    run_id: str | None
    origin_run_id: str | None
    attempt: int | None
    parent_job_id: str | None
    resumed_epoch: int | None
    initial_weights_path: str | None
    initial_weights_sha256: str | None
    spec: JsonObject
    epoch: int | None
    epoch_batch: int | None
    epoch_batches: int | None
    durable_epoch: int | None
    durable_batch: int | None
    epochs: int | None
    trained_seconds: float | None
    lost_seconds: float | None
    metrics: JsonObject
    best_checkpoint_path: str | None
    best_checkpoint_sha256: str | None
    best_checkpoint_size: int | None
    last_checkpoint_path: str | None
    last_checkpoint_sha256: str | None
    last_checkpoint_size: int | None
    last_checkpoint_expired_at: datetime | None
    origin: str | None
    checkpoint_uploader: str | None
    checkpoint_finding: str | None
    pinned: bool
    archived_at: datetime | None
    inexact_reason: str | None
    error: str | None
    triggered_by: str | None
    created_at: datetime | None
    queued_at: datetime | None
    waited_seconds: float | None
    machine: str | None
    gpu_name: str | None
    gpu_driver: str | None
    started_at: datetime | None
    completed_at: datetime | None
    updated_at: datetime | None

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
    """One row of `training_epochs`: the numbers of one finished epoch, counted from 0.

    metrics has Ultralytics' names as they are in results.csv; a number that was not finite is None.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    epoch: int
    metrics: dict[str, float | None]
    fitness: float | None
    seconds: float | None
    eta_seconds: float | None
    recorded_at: datetime

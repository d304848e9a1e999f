"""A training job as it is recorded: one row of `training_jobs` and its finished epochs."""

from __future__ import annotations

from datetime import datetime
from enum import Enum, StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict

from include.jobs.recorded_checkpoint import RecordedCheckpoint

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import CheckpointKind, Position

TRAINING_DAG = "train_yolo"
"""The Dag that trains; jobs whose run belongs to another Dag were trained elsewhere."""


class JobStatus(StrEnum):
    """Status of a job as its row records it; only Airflow knows whether its run is still active.

    A job is queued until it has its GPU, and then running, even between attempts. A queued job without a run
    was written by a host application and waits for its first run.
    """

    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


class StopRequest(Enum):
    """Whether a job should stop, and when: after its current batch or after its current epoch."""

    NONE = "none"
    AFTER_EPOCH = "after_epoch"
    NOW = "now"

    @classmethod
    def of(cls, requested: bool, after_epoch: bool) -> StopRequest:
        """Return the request that is recorded in the two columns of a row."""
        if not requested:
            return cls.NONE
        return cls.AFTER_EPOCH if after_epoch else cls.NOW


def _keep_object(value: object) -> object:
    return value if isinstance(value, dict) else None


# A host application may have written anything into a JSON column.
JsonObject = Annotated[dict[str, Any] | None, BeforeValidator(_keep_object)]


class TrainingJob(BaseModel):
    """One row of `training_jobs`.

    Epochs are counted from 0. Sizes are in bytes; hashes are SHA-256 of the whole file in lower-case hex.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    job_id: str
    """Name of the job, and of its checkpoints in S3."""
    status: str | None
    """A JobStatus or, for a job that was never trained here, whatever a host application wrote."""
    stop_requested: bool
    """Whether the job was asked to stop: after its current batch, or after its epoch if stop_after_epoch is
    set. It stays true for a job that was cancelled while it waited."""
    stop_after_epoch: bool
    """Whether a job that was asked to stop finishes its epoch first."""
    dag_id: str | None
    """Dag of the run that owns the job."""
    run_id: str | None
    """Run that owns the job; None until the first run takes the job."""
    origin_run_id: str | None
    """Dag run that started this training run from scratch. Objects in S3 belong to the training run if their
    metadata name that Dag run."""
    attempt: int | None
    """Try number of the task `train` in the run that owns the job; None before the first attempt."""
    parent_job_id: str | None
    """Job that this job continues, or whose weights it started from."""
    resumed_epoch: int | None
    """The parent's epoch after which this job continues; None if it does not continue another job."""
    initial_weights_path: str | None
    """File in S3 that training started from; None if training started from scratch."""
    initial_weights_sha256: str | None
    """SHA-256 of the file in initial_weights_path."""
    spec: JsonObject
    """The parameters, as `ResolvedSpec` writes them."""
    dataset_name: str | None
    """Registered dataset that the job is trained on; None if the dataset was given by its address."""
    dataset_version: int | None
    """Version of the registered dataset."""
    dataset_fingerprint: str | None
    """Identifies the dataset's content; None until the dataset has been checked."""
    epoch: int | None
    """Last finished epoch, counted from 0; None until this job has finished one."""
    epoch_batch: int | None
    """Number of batches trained since the last finished epoch."""
    epoch_batches: int | None
    """Number of batches in an epoch."""
    durable_epoch: int | None
    """Last finished epoch in the newest state that was verified in S3; -1 if none was finished in
    it, None if there is no such state."""
    durable_batch: int | None
    """Number of batches after durable_epoch in the newest state that was verified in S3."""
    epochs: int | None
    """Planned number of epochs."""
    trained_seconds: float | None
    """Training time, excluding lost training."""
    lost_seconds: float | None
    """Training time that was lost and had to be repeated."""
    metrics: JsonObject
    """Metrics of the last epoch or, once both checkpoints are recorded, of best.pt; named as in
    results.csv."""
    best_checkpoint_path: str | None
    """URI of best.pt; None until it is recorded."""
    best_checkpoint_sha256: str | None
    """Hash of best.pt; None if a host application recorded the path."""
    best_checkpoint_size: int | None
    """Size of best.pt; None if a host application recorded the path."""
    last_checkpoint_path: str | None
    """URI of last.pt; None until it is recorded, and after last.pt has expired."""
    last_checkpoint_sha256: str | None
    """Hash of last.pt; None if a host application recorded the path."""
    last_checkpoint_size: int | None
    """Size of last.pt; None if a host application recorded the path."""
    last_checkpoint_expired_at: datetime | None
    """When retention deleted last.pt; None while it is kept."""
    origin: Literal["external"] | None
    """Where the job was trained: "external" if outside Airflow, None if here."""
    checkpoint_uploader: str | None
    """User who reported the checkpoints of an external job as complete."""
    checkpoint_finding: str | None
    """Why the checkpoints of an external job cannot be loaded here; None if they can."""
    pinned: bool
    """Whether retention must always keep last.pt."""
    archived_at: datetime | None
    """When the job was archived; None if it is not archived. A new run unarchives the job."""
    inexact_reason: str | None
    """Why the weights may differ from those of an uninterrupted training run; None if there is no reason."""
    preparation: str | None
    """Progress of listing, fetching and checking the job's data, in words; None at any other time."""
    error: str | None
    """Why the job failed."""
    triggered_by: str | None
    """Owner of the job: the user who triggered its first run. None if a schedule without a configured owner
    triggered it, or if a host application wrote the row."""
    created_at: datetime | None
    """When the row was created."""
    queued_at: datetime | None
    """When the job was last queued for its GPU."""
    waited_seconds: float | None
    """Time spent waiting for the quota, the data and a GPU, excluding the current wait."""
    waits_for_quota: bool
    """Whether the job waits until other jobs of its user end, because they use up that user's quota."""
    machine: str | None
    """Host name of the newest attempt."""
    gpu_name: str | None
    """GPU of the newest attempt; "CPU" if it uses none."""
    gpu_driver: str | None
    """Version of the GPU's driver."""
    started_at: datetime | None
    """When the job first got its GPU."""
    completed_at: datetime | None
    """When the job was completed; None for any other status."""
    updated_at: datetime | None
    """When the row was last written by a run, a stop or a completion; archiving, pinning and retention do not
    change it."""

    def get_checkpoint(self, kind: CheckpointKind) -> RecordedCheckpoint | None:
        """Return the recorded best.pt or last.pt; None if no path is recorded."""
        return RecordedCheckpoint.of(self, kind)

    @property
    def is_active(self) -> bool:
        """Whether the job is queued or running."""
        return self.status in {JobStatus.QUEUED, JobStatus.RUNNING}

    @property
    def has_ended(self) -> bool:
        """Whether the job completed, failed or was stopped."""
        return self.status in {JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.STOPPED}

    @property
    def has_ended_well(self) -> bool:
        """Whether the job completed or was stopped while it trained: both checkpoints are then recorded."""
        return self.status in {JobStatus.COMPLETED, JobStatus.STOPPED} and not self.was_cancelled

    @property
    def was_cancelled(self) -> bool:
        """Whether the job was stopped while it waited: its run may be active, but does not train the job."""
        return self.status == JobStatus.STOPPED and self.stop_requested

    @property
    def durable(self) -> Position | None:
        """Position of the newest state that was verified in S3; None if there is none yet."""
        return None if self.durable_epoch is None else (self.durable_epoch, self.durable_batch or 0)

    @property
    def waits_for_gpu(self) -> bool:
        """Whether a run owns the job and waits for a GPU, not for its user's quota."""
        return self.status == JobStatus.QUEUED and self.run_id is not None and not self.waits_for_quota


class RecordedEpoch(BaseModel):
    """One row of `training_epochs`. Numbers that are not finite are None."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    epoch: int
    """Counted from 0."""
    metrics: dict[str, float | None]
    """Metrics by their names in Ultralytics' results.csv."""
    fitness: float | None
    """The value by which Ultralytics compares epochs. None if it is not finite, if there was no validation,
    or if the epoch was recorded later, from a saved state."""
    seconds: float | None
    """Duration of the epoch, including validation."""
    eta_seconds: float | None
    """Expected duration of the remaining epochs when this epoch ended; None if the epoch was recorded later,
    from a saved state."""
    recorded_at: datetime
    """When the epoch was last recorded; a new attempt may repeat the epoch."""

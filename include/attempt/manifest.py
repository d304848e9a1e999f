"""The result of the task `train`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from include.checkpoints.checkpoint import Checkpoint
from include.jobs.job import JobStatus
from include.payload import Payload
from include.training.contract import StopReason

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import CheckpointKind
    from include.claim.resolved_job import ResolvedJob
    from include.training.contract import TrainingResult


class TrainingManifest(Payload):
    """The result of `train`: best.pt and last.pt with their hashes, and the values to record with them."""

    job_id: str
    """Name of the job."""
    run_id: str
    """Dag run that trained the model."""
    origin_run_id: str
    """Dag run that started this training run."""
    best: Checkpoint
    """The deployable best.pt, on the machine that trained."""
    last: Checkpoint
    """The complete training state, on the machine that trained."""
    epoch: int
    """Last finished epoch, counted from 0; -1 if the job was stopped before one was finished."""
    epochs: int
    """Planned number of epochs."""
    start_epoch: int
    """First epoch of the last attempt, counted from 0."""
    metrics: dict[str, float | None]
    """Metrics of best.pt on the validation split."""
    fitness: float | None
    """Fitness of best.pt on the validation split."""
    stop_reason: StopReason
    """Why training ended."""
    seconds: float
    """Duration of training in the last attempt, including the final validation. If a user stopped the job
    within an epoch, only the final validation counts."""
    device: str
    """Hardware of the last attempt."""
    ultralytics_version: str
    """Version of Ultralytics that trained the model."""
    keep_local: bool
    """Whether to keep both local files once they are in S3."""

    @property
    def status(self) -> JobStatus:
        """The job's status after recording: stopped if a user stopped it, otherwise completed."""
        return JobStatus.STOPPED if self.stop_reason == "stopped" else JobStatus.COMPLETED

    def list_checkpoints(self) -> tuple[tuple[Checkpoint, CheckpointKind], ...]:
        """Return both files, best.pt first, because last.pt refers to it."""
        return (self.best, "best"), (self.last, "last")

    @classmethod
    def of(cls, job: ResolvedJob, result: TrainingResult) -> Self:
        """Return the manifest of a finished training run."""
        return cls(
            job_id=job.job_id,
            run_id=job.run_id,
            origin_run_id=job.origin_run_id,
            keep_local=job.spec.keep_local,
            best=result.best,
            last=result.last,
            epoch=result.epoch,
            epochs=result.epochs,
            start_epoch=result.start_epoch,
            metrics=dict(result.metrics),
            fitness=result.fitness,
            stop_reason=result.stop_reason,
            seconds=result.seconds,
            device=result.device,
            ultralytics_version=result.ultralytics_version,
        )

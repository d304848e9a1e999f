"""What travels between the tasks of `train_yolo`: small, plain JSON, read and written by the same models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self, TypeVar

from airflow.sdk.exceptions import AirflowFailException
from pydantic import BaseModel, ConfigDict

from include.checkpoints.checkpoint import Checkpoint
from include.jobs.job import JobStatus
from include.jobs.spec import ResolvedSpec
from include.training.contract import StopReason
from include.weights.initial import InitialWeights

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import CheckpointKind
    from include.training.contract import TrainingResult


AnyModel = TypeVar("AnyModel", bound=BaseModel)


def parse_result(model: type[AnyModel], value: Any, sender: str) -> AnyModel:
    """Parse what the task `sender` returned. Raises AirflowFailException if that is nothing."""
    return model.model_validate(require_result(value, sender))


def require_result(value: Any, sender: str) -> Any:
    """Return `value`. Raises AirflowFailException for None, which none of our tasks returns."""
    if value is None:
        raise AirflowFailException(
            f"Task {sender} returned nothing, because it was marked as success by hand. Clear {sender} and "
            "everything downstream"
        )
    return value


class Payload(BaseModel):
    """What a task returns, and other tasks take."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class ResumePoint(Payload):
    """The state a resumed job continues from: the parent's objects in S3, as `resolve_config` found them."""

    job_id: str
    """The parent."""
    last: Checkpoint
    """Its whole state."""
    best: Checkpoint | None
    """Its best.pt; None where the parent was interrupted before it stored one."""

    @property
    def epoch(self) -> int:
        """The last epoch that is in the state, from 0."""
        return self.last.epoch


class ResolvedJob(Payload):
    """A job whose parameters were checked and whose row this run owns."""

    job_id: str
    """Name of the job."""
    dag_id: str
    """Dag of this run."""
    run_id: str
    """This run, which owns the job."""
    origin_run_id: str
    """Run that began this training: this one, or an earlier one that this one continues."""
    spec: ResolvedSpec
    """The parameters; what is null is Ultralytics' own default."""
    resume: ResumePoint | None = None
    """What a new job takes over from its parent; None for any other."""
    weights: InitialWeights | None = None
    """What the training began with; None where it began from scratch, or from a file in S3 before hashes were
    kept."""

    def identity(self) -> dict[str, object]:
        """Return what makes this training this one: a state that differs in it is another training's."""
        weights = {"initial_weights": self.weights.sha256} if self.weights else {}
        return {
            "job_id": self.job_id,
            "origin_run_id": self.origin_run_id,
            **self.spec.identity(),
            **weights,
        }


class TrainingManifest(Payload):
    """What `train` hands on: the two local files by content, and the numbers that are recorded with them."""

    job_id: str
    """Name of the job."""
    run_id: str
    """Run that trained it."""
    origin_run_id: str
    """Run that began this training."""
    best: Checkpoint
    """The deployable best.pt, on the machine that trained."""
    last: Checkpoint
    """The whole training state, on the machine that trained."""
    epoch: int
    """Last finished epoch, from 0."""
    epochs: int
    """Planned number of epochs."""
    start_epoch: int
    """First epoch of the last attempt, from 0."""
    metrics: dict[str, float | None]
    """Of best.pt on the validation split."""
    fitness: float | None
    """Of best.pt on the validation split."""
    stop_reason: StopReason
    """Why the training ended."""
    seconds: float
    """What the last attempt took."""
    device: str
    """What the last attempt ran on."""
    ultralytics_version: str
    """Version of Ultralytics that trained."""
    keep_local: bool
    """Whether the local files stay after both are in S3."""

    @property
    def status(self) -> JobStatus:
        """What the job is once this is recorded: stopped on purpose, or completed however else it ended."""
        return JobStatus.STOPPED if self.stop_reason == "stopped" else JobStatus.COMPLETED

    def checkpoints(self) -> tuple[tuple[Checkpoint, CheckpointKind], ...]:
        """Both files; best.pt comes first, because last.pt refers to it."""
        return (self.best, "best"), (self.last, "last")

    @classmethod
    def of(cls, job: ResolvedJob, result: TrainingResult) -> Self:
        """Return the manifest of a finished training."""
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

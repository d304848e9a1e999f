"""The result of `resolve_config`: a job whose parameters are valid and whose row the run owns."""

from __future__ import annotations

from include.checkpoints.checkpoint import Checkpoint
from include.jobs.spec import ResolvedSpec
from include.payload import Payload
from include.weights.initial_weights import InitialWeights


class ResumePoint(Payload):
    """The parent's state that a new job continues from: its objects in S3, as found by `resolve_config`."""

    job_id: str
    """Job under whose prefix the objects are: the parent or, once the state has been copied, the new job."""
    last: Checkpoint
    """The parent's complete training state."""
    best: Checkpoint | None
    """The parent's best.pt; None if it was interrupted before it stored one."""

    @property
    def epoch(self) -> int:
        """The last finished epoch in the state, counted from 0."""
        return self.last.epoch


class ResolvedJob(Payload):
    """A job whose parameters are valid and whose row this run owns."""

    job_id: str
    """Name of the job."""
    dag_id: str
    """Dag of this run."""
    run_id: str
    """This run, which owns the job."""
    origin_run_id: str
    """The Dag run that began this training run: `run_id`, or an earlier run that `run_id` continues."""
    spec: ResolvedSpec
    """The parameters; null means Ultralytics' default."""
    resume: ResumePoint | None = None
    """The parent's state; None if there is no parent, or once the job has stored a state itself."""
    weights: InitialWeights | None = None
    """The weights from which the training run started. None if it started from scratch, or from a file in S3
    in an earlier release, which recorded no hashes."""

    def identity(self) -> dict[str, object]:
        """Return this training run's identity; a state with a different identity belongs to another run."""
        weights = {"initial_weights": self.weights.sha256} if self.weights else {}
        return {
            "job_id": self.job_id,
            "origin_run_id": self.origin_run_id,
            **self.spec.identity(),
            **weights,
        }

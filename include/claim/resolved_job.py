"""A job whose parameters were checked and whose row a run owns: what `resolve_config` returns."""

from __future__ import annotations

from include.checkpoints.checkpoint import Checkpoint
from include.jobs.spec import ResolvedSpec
from include.payload import Payload
from include.weights.initial_weights import InitialWeights


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

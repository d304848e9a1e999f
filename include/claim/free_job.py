"""Finds the job that a run asks for, and refuses a job that is not free or has lost its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.checkpoints.checkpoint import name_position
from include.claim.ownership import require_own_job
from include.claim.resuming import describe_activity, is_owner_running
from include.jobs.job import JobStatus
from include.jobs.spec import SpecError, TrainingSpec

if TYPE_CHECKING:
    from include.checkpoints.store import CheckpointStore
    from include.checkpoints.stored import StoredCheckpoint
    from include.claim.claimant import Claimant, RunIdentity
    from include.jobs.job import TrainingJob
    from include.jobs.repository import JobRepository


@dataclass(frozen=True)
class FreeJob:
    """A requested job that the run may claim."""

    job_id: str
    """The name that was given, or one generated from the run."""
    spec: TrainingSpec
    """The parameters as given."""
    row: TrainingJob | None
    """The job's row, if there is one."""
    own: StoredCheckpoint | None
    """The stored state from which the run resumes; None if it starts from scratch, or from a parent."""
    is_run_recreated: bool
    """Whether the row's run was deleted and this run is a new one with the same id."""

    def has_begun(self, run_id: str) -> bool:
        """Return whether the job's training has begun and will be continued by this run."""
        if self.own is not None:
            return True
        row = self.row
        if row is None or row.origin_run_id is None or row.started_at is None or self.is_run_recreated:
            return False
        return not self.spec.fresh or row.run_id == run_id


def find_free_job(params: Mapping[str, Any], claimant: Claimant) -> FreeJob:
    """Return the job that `params` name, or a new one for the run.

    Raises SpecError for invalid `params`, and for a job that belongs to another user, is queued or being
    trained, is completed (without `fresh`), or has lost its recorded state.
    """
    run, checkpoints = claimant.run, claimant.checkpoints
    spec = TrainingSpec.parse(dict(params))
    job_id = _choose_job_id(spec, run)
    row = claimant.jobs.get(job_id)
    own, is_run_recreated = None, False
    if row is not None:
        require_own_job(row, run, spec, claimant.ownership)
        _refuse_unless_free(row, spec, claimant)
        is_run_recreated = run.owns(row) and row.updated_at is not None and row.updated_at < run.created_at
        own = _find_own_state(row, spec, run, checkpoints, is_run_recreated=is_run_recreated)
    if own is None and not spec.fresh and (row is None or row.origin_run_id is None):
        _refuse_orphaned_state(job_id, checkpoints)
    return FreeJob(job_id, spec, row, own, is_run_recreated)


def has_own_state(params: Mapping[str, Any], run: RunIdentity, jobs: JobRepository) -> bool:
    """Return whether the job in `params` has stored its own state."""
    try:
        spec = TrainingSpec.parse(dict(params))
    except SpecError:
        return False
    return jobs.has_own_state(_choose_job_id(spec, run))


def _choose_job_id(spec: TrainingSpec, run: RunIdentity) -> str:
    return spec.job_id or run.name_job(spec.with_defaults().task)


def _refuse_unless_free(row: TrainingJob, spec: TrainingSpec, claimant: Claimant) -> None:
    if claimant.run.owns(row):
        return
    if row.status == JobStatus.COMPLETED and not spec.fresh:
        raise SpecError(
            f"job_id={row.job_id!r} is already completed; choose another job_id, set fresh=true to train it "
            f"again from the start, or resume it as a new job with resume_from={row.job_id!r} to train longer"
        ).about("job_id")
    if is_owner_running(row, claimant.is_running):
        raise SpecError(
            f"job_id={row.job_id!r} {describe_activity(row)} in run {row.run_id} of {row.dag_id}; wait for "
            "that run, or choose another job_id"
        ).about("job_id")


def _refuse_orphaned_state(job_id: str, checkpoints: CheckpointStore) -> None:
    """Raise SpecError if the job's state is in S3 but its row was deleted or replaced.

    Otherwise the training run would silently start from scratch.
    """
    stored = checkpoints.head(job_id, "last")
    if stored is not None and stored.checkpoint is not None and stored.run_id is not None:
        raise SpecError(
            f"job_id={job_id!r} has no training run recorded in training_jobs, but {stored.uri} holds its "
            f"state after {name_position(stored.checkpoint.position)}: its row was deleted or replaced. "
            "Restore the row to resume, set fresh=true to start over, or choose another job_id"
        ).about("job_id")


def _find_own_state(
    row: TrainingJob,
    spec: TrainingSpec,
    run: RunIdentity,
    checkpoints: CheckpointStore,
    *,
    is_run_recreated: bool,
) -> StoredCheckpoint | None:
    """Return the stored state that this run resumes from; None if it starts from scratch.

    Raises SpecError if a state was stored but is gone, because a training run must not start over silently.
    A state that has expired counts as gone, because its deletion may be under way.
    """
    if row.origin_run_id is None or (spec.fresh and (is_run_recreated or row.run_id != run.run_id)):
        return None
    expired = row.last_checkpoint_expired_at
    for kind in () if expired else ("last", "last.previous"):
        stored = checkpoints.head(row.job_id, kind)
        if stored is not None and stored.checkpoint is not None and stored.run_id == row.origin_run_id:
            return stored
    if row.durable is not None and (expired or row.run_id != run.run_id):
        gone, remedy = "is gone", "restore it"
        if expired:
            gone = f"was deleted by the retention policy on {expired:%Y-%m-%d}"
            remedy = "restore it as docs/operations.md (Retention) says"
        raise SpecError(
            f"job_id={row.job_id!r} stored its state after {name_position(row.durable)}, but "
            f"{checkpoints.build_uri(row.job_id, 'last')} {gone}; {remedy}, or set fresh=true to start over"
        ).about("job_id")
    return None

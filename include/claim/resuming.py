"""Continues a job as a new job, which inherits the state and all parameters that its run does not set."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.checkpoints.checkpoint import name_position
from include.claim.ownership import require_own_parent
from include.claim.resolved_job import ResumePoint
from include.jobs.job import JobStatus
from include.jobs.spec import SpecError, TrainingSpec
from include.weights.initial_weights import InitialWeights

if TYPE_CHECKING:
    from collections.abc import Callable

    from include.checkpoints.checkpoint import CheckpointKind
    from include.checkpoints.store import CheckpointStore
    from include.checkpoints.stored import StoredCheckpoint
    from include.claim.claimant import Claimant
    from include.jobs.job import TrainingJob


def inherit_from_parent(
    spec: TrainingSpec, claimant: Claimant
) -> tuple[TrainingSpec, ResumePoint, InitialWeights | None]:
    """Return the spec completed with the parent's parameters; the parent's state; and its initial weights."""
    parent = _find_parent(spec.resume_from or "", claimant)
    resume = _find_resume_point(parent, claimant.checkpoints)
    spec = spec.inherit_from(_read_spec(parent))
    _refuse_finished(spec, parent, resume)
    return spec, resume, find_initial_weights(parent)


def find_initial_weights(row: TrainingJob) -> InitialWeights | None:
    """Return the weights that a training run started from, as recorded in its row."""
    if row.initial_weights_path is None or row.initial_weights_sha256 is None:
        return None
    fine_tuned = row.parent_job_id if row.resumed_epoch is None else None
    return InitialWeights(path=row.initial_weights_path, sha256=row.initial_weights_sha256, job_id=fine_tuned)


def is_owner_running(row: TrainingJob, is_running: Callable[[str, str], bool]) -> bool:
    """Return whether the run that owns the row is running and may still train the job.

    A run must not train a job that is completed, or that was cancelled while the run waited.

    The column `status` cannot tell: a killed run leaves it at `running`, and a cleared run finds it at
    `failed`.
    """
    if row.status == JobStatus.COMPLETED or row.was_cancelled or row.dag_id is None or row.run_id is None:
        return False
    return is_running(row.dag_id, row.run_id)


def describe_activity(row: TrainingJob) -> str:
    """Return the job's activity as a clause for an error message."""
    if row.waits_for_quota:
        return "waits for its user's quota"
    return "waits for a GPU" if row.status == JobStatus.QUEUED else "is being trained"


def _find_parent(parent_job_id: str, claimant: Claimant) -> TrainingJob:
    parent = claimant.jobs.get(parent_job_id)
    if parent is None:
        raise SpecError(
            f"resume_from={parent_job_id!r} does not exist in training_jobs; give the id of an earlier job"
        ).about("resume_from")
    require_own_parent(parent, claimant.run, claimant.ownership)
    if is_owner_running(parent, claimant.is_running):
        raise SpecError(
            f"resume_from={parent_job_id!r} {describe_activity(parent)} in run {parent.run_id}; wait until "
            "that run has ended"
        ).about("resume_from")
    return parent


def _find_resume_point(parent: TrainingJob, checkpoints: CheckpointStore) -> ResumePoint:
    """Return the parent's last.pt, and its best.pt unless that is missing or belongs to another training run.

    Raises SpecError if last.pt is missing, expired, not resumable or not the parent's own.
    """
    if parent.last_checkpoint_expired_at is not None:
        kept = parent.get_checkpoint("best")
        best_uri = kept.path if kept else checkpoints.build_uri(parent.job_id, "best")
        raise SpecError(
            f"resume_from={parent.job_id!r} can no longer be resumed: its last.pt was deleted by the "
            f"retention policy on {parent.last_checkpoint_expired_at:%Y-%m-%d}. Start a new training run "
            f"from its best.pt with model={best_uri!r}, and pin jobs that you want to resume later"
        ).about("resume_from")
    last = checkpoints.head(parent.job_id, "last")
    if last is None:
        raise SpecError(
            f"resume_from={parent.job_id!r} has no last.pt in S3, so there is nothing to resume; the job "
            f"is {parent.status}" + (f" ({parent.error})" if parent.error else "")
        ).about("resume_from")
    if last.checkpoint is None or last.checkpoint.position <= (-1, 0):
        raise SpecError(
            f"resume_from={parent.job_id!r}: {last.uri} cannot be resumed, because it was not stored by "
            "this project or has no optimizer state; start a new training run with it as `model`"
        ).about("resume_from")
    recorded = parent.get_checkpoint("last")
    if recorded and recorded.sha256 not in {None, last.checkpoint.sha256}:
        raise SpecError(
            f"resume_from={parent.job_id!r}: {last.uri} has SHA-256 {last.checkpoint.sha256}, but "
            f"{recorded.sha256} was recorded: the file has been replaced since then. Restore it, or start a "
            "new training run"
        ).about("resume_from")
    if not _belongs_to(parent, last, "last"):
        raise SpecError(
            f"resume_from={parent.job_id!r}: {last.uri} belongs to an earlier training run with this "
            f"job_id ({name_position(last.checkpoint.position)}); the current one is {parent.status} and has "
            "not stored a state"
        ).about("resume_from")
    best = checkpoints.head(parent.job_id, "best")
    if best is not None and not _belongs_to(parent, best, "best"):
        best = None
    return ResumePoint(job_id=parent.job_id, last=last.checkpoint, best=best.checkpoint if best else None)


def _belongs_to(parent: TrainingJob, stored: StoredCheckpoint, kind: CheckpointKind) -> bool:
    """Return whether the object belongs to the row's training run, not to an earlier one of the same job."""
    recorded = parent.get_checkpoint(kind)
    if recorded is not None and recorded.sha256 is not None:
        return stored.checkpoint is not None and stored.checkpoint.sha256 == recorded.sha256
    return stored.run_id == parent.origin_run_id


def _read_spec(parent: TrainingJob) -> TrainingSpec:
    if not parent.spec:
        raise SpecError(
            f"resume_from={parent.job_id!r} was not trained here: its row contains no parameters"
        ).about("resume_from")
    return TrainingSpec.parse_stored(dict(parent.spec))


def _refuse_finished(spec: TrainingSpec, parent: TrainingJob, resume: ResumePoint) -> None:
    epochs = spec.epochs or parent.epochs
    done = resume.epoch + 1
    if spec.time is None and epochs is not None and epochs <= done:
        raise SpecError(
            f"epochs={epochs} leaves nothing to train: job {parent.job_id} has finished {done} epochs; "
            f"set epochs to more than {done}"
        ).about("epochs")

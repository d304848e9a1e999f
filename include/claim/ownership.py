"""Requires that a run's user may change the jobs in its parameters, and decides who owns the run's job.

A job's owner is the user who triggered its first run, or SCHEDULED_JOBS_OWNER if a schedule did. An owned job
keeps its owner when an administrator resumes it or starts it over. But if everyone may change every job, a
job belongs to the user of its latest run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.jobs.spec import SpecError

if TYPE_CHECKING:
    from include.claim.claimant import RunIdentity
    from include.jobs.job import TrainingJob
    from include.jobs.ownership import JobOwnership
    from include.jobs.repository import JobRepository
    from include.jobs.spec import TrainingSpec


def require_own_job(row: TrainingJob, run: RunIdentity, spec: TrainingSpec, ownership: JobOwnership) -> None:
    """Raise SpecError unless the run's user may resume the job under its own id, or start it over.

    A scheduled run that is retried or cleared keeps its job even if scheduled jobs now have another owner.
    """
    if (run.owns(row) and run.triggered_by is None) or _may_change(row, run, ownership):
        return
    action = "start it over" if spec.fresh else "resume it under the same id"
    sentence = f"{ownership.explain(row)} {action}. Give another job_id, or ask one of them"
    raise SpecError(sentence).about("job_id")


def require_own_parent(parent: TrainingJob, run: RunIdentity, ownership: JobOwnership) -> None:
    """Raise SpecError unless the run's user may continue the job in `resume_from` as a new job."""
    if not _may_change(parent, run, ownership):
        raise SpecError(
            f"resume_from={parent.job_id!r}: {ownership.explain(parent)} continue it. Start a new training "
            f"run from its best.pt with model='job:{parent.job_id}', or ask one of them"
        ).about("resume_from")


def find_owner(row: TrainingJob | None, run: RunIdentity, ownership: JobOwnership) -> str | None:
    """Return who owns the job once the run has claimed it; `row` is the job before the claim."""
    if row is not None and row.triggered_by is not None and not ownership.open_to_all:
        return row.triggered_by
    return ownership.determine_owner(run.triggered_by)


def refuse_waiting_job(
    job_id: str, error: str, triggered_by: str | None, jobs: JobRepository, ownership: JobOwnership
) -> bool:
    """Mark a queued job that has no run as failed, with the reason `error`; return whether there was one.

    A run of `triggered_by` could not claim the job. A job of another user is left alone, because that user
    may still train it.
    """
    row = jobs.get(job_id)
    return (
        row is not None
        and ownership.may_change(ownership.determine_owner(triggered_by), row)
        and jobs.refuse(job_id, error)
    )


def _may_change(job: TrainingJob, run: RunIdentity, ownership: JobOwnership) -> bool:
    return ownership.may_change(ownership.determine_owner(run.triggered_by), job)

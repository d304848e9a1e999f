"""Actions on a job that only the person who started it may take."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from include.api.problems import ProblemError
from include.jobs.listing import JobListing

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from psycopg import Connection

    from include.jobs.job import TrainingJob


def require_own_job(database: Connection[Any], job_id: str, user: BaseUser, action: str) -> TrainingJob:
    """Return the job if that user started it.

    action completes the sentence "only the person who started a job may …". Raises JobUnknown, and
    ProblemError (403) for jobs that others started or whose user is unknown.
    """
    job = JobListing(database).require(job_id)
    if job.triggered_by is None or job.triggered_by != user.get_name():
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            f"job_id={job_id!r} was started by {job.triggered_by or 'an unknown user'}: only the person who "
            f"started a job may {action}",
        )
    return job

"""What only the person who has started a job may do with it."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from include.api.problems import Refused
from include.jobs.listing import JobListing

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from psycopg import Connection

    from include.jobs.job import TrainingJob


def require_own_job(database: Connection[Any], job_id: str, user: BaseUser, does: str) -> TrainingJob:
    """Return the job if that user has started it.

    does completes the sentence "only who has started a job …". Raises JobUnknown, and Refused (403) for
    jobs of others and those of which nobody knows who has started them.
    """
    job = JobListing(database).require(job_id)
    if job.triggered_by is None or job.triggered_by != user.get_name():
        raise Refused(
            HTTPStatus.FORBIDDEN,
            f"job_id={job_id!r} was started by {job.triggered_by or 'nobody known'}: only who has started a "
            f"job {does}",
        )
    return job

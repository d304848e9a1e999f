"""Actions on a job that only its owner and job administrators may take."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from include.api.problems import ProblemError
from include.deployment.settings import Settings
from include.jobs.listing import JobListing

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from psycopg import Connection

    from include.jobs.job import TrainingJob


def require_own_job(database: Connection[Any], job_id: str, user: BaseUser, action: str) -> TrainingJob:
    """Return the job if that user may change it.

    action completes the sentence "only its owner may …". Raises JobUnknown, and ProblemError (403) for
    the job of another user.
    """
    job = JobListing(database).require(job_id)
    ownership = Settings.from_environment().ownership
    if not ownership.may_change(user.get_name(), job):
        raise ProblemError(HTTPStatus.FORBIDDEN, f"{ownership.explain(job)} {action}")
    return job

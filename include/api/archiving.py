"""Archiving a job: it stays with all that it has stored, and the list of trainings leaves it out."""

from __future__ import annotations

from http import HTTPStatus

from airflow.api_fastapi.core_api.security import GetUserDep  # noqa: TC002 - read at run time
from fastapi import APIRouter

from include.api.access import may_start
from include.api.database import Database  # noqa: TC001 - FastAPI reads annotations at run time
from include.api.job_response import TrainingJobResponse, response_of  # noqa: TC001 - read at run time
from include.api.jobs import JobId  # noqa: TC001 - FastAPI reads annotations at run time
from include.api.origin import from_own_pages
from include.api.own_jobs import require_own_job
from include.api.problems import Refused, responses
from include.jobs.job import TRAINING_DAG
from include.jobs.listing import JobListing
from include.jobs.repository import JobRepository

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=[may_start(TRAINING_DAG), from_own_pages()])

_ANSWERS = responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)


@router.post("/{job_id}/archive", responses=_ANSWERS)
def archive_job(user: GetUserDep, database: Database, job_id: JobId) -> TrainingJobResponse:
    """Archive a job of one's own that has ended: the console lists it no longer, and nothing is deleted.

    Asked again, it is the same. A new run of the job takes it out of the archive.
    """
    return _set_archived(user, database, job_id, archived=True)


@router.delete("/{job_id}/archive", responses=_ANSWERS)
def unarchive_job(user: GetUserDep, database: Database, job_id: JobId) -> TrainingJobResponse:
    """Take a job of one's own out of the archive. Asked again, it is the same."""
    return _set_archived(user, database, job_id, archived=False)


def _set_archived(
    user: GetUserDep, database: Database, job_id: str, *, archived: bool
) -> TrainingJobResponse:
    require_own_job(database, job_id, user, "archive or unarchive it")
    if not JobRepository(database).archive(job_id, archived=archived):
        raise Refused(
            HTTPStatus.CONFLICT, f"job_id={job_id!r} is still active and cannot be archived: stop it first"
        )
    return response_of(JobListing(database).require(job_id), database)

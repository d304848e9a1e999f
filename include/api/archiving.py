"""Archiving a job, which hides it from the console's list by default and deletes nothing."""

from __future__ import annotations

from http import HTTPStatus

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter

from include.api.database import Database
from include.api.job_response import TrainingJobResponse, build_response
from include.api.jobs import JobId, require_own_job
from include.api.origin import require_may_change
from include.api.problems import ProblemError, responses
from include.jobs.job import TRAINING_DAG
from include.jobs.listing import JobListing
from include.jobs.repository import JobRepository

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=require_may_change(TRAINING_DAG))

_ANSWERS = responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)


@router.post("/{job_id}/archive", responses=_ANSWERS)
def archive_job(user: GetUserDep, database: Database, job_id: JobId) -> TrainingJobResponse:
    """Archive a job that has ended: the console lists it only on request, and nothing is deleted.

    Only the job's owner and job administrators may do this. Repeating the request changes nothing. A new run
    of the job unarchives it.
    """
    return _set_archived(user, database, job_id, archived=True)


@router.delete("/{job_id}/archive", responses=_ANSWERS)
def unarchive_job(user: GetUserDep, database: Database, job_id: JobId) -> TrainingJobResponse:
    """Unarchive a job.

    Only the job's owner and job administrators may do this. Repeating the request changes nothing.
    """
    return _set_archived(user, database, job_id, archived=False)


def _set_archived(
    user: GetUserDep, database: Database, job_id: str, *, archived: bool
) -> TrainingJobResponse:
    require_own_job(database, job_id, user, "archive or unarchive it")
    if not JobRepository(database).set_archived(job_id, archived=archived):
        raise ProblemError(
            HTTPStatus.CONFLICT, f"job_id={job_id!r} is still active and cannot be archived: stop it first"
        )
    return build_response(JobListing(database).require(job_id), database)

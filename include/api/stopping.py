"""Stopping a job at the end of its epoch: its state is kept, and it can be resumed."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter

from include.api.access import may_start
from include.api.database import Database  # noqa: TC001 - FastAPI reads annotations at run time
from include.api.job_response import TrainingJobResponse, response_of  # noqa: TC001 - read at run time
from include.api.jobs import JobId  # noqa: TC001 - FastAPI reads annotations at run time
from include.api.origin import from_own_pages
from include.api.problems import Refused, responses
from include.jobs.listing import JobListing
from include.jobs.repository import JobRepository
from include.pipeline.settings import TRAINING_DAG

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=[may_start(TRAINING_DAG), from_own_pages()])


@router.post(
    "/{job_id}/stop",
    status_code=HTTPStatus.ACCEPTED,
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
def stop_job(job_id: JobId, database: Database) -> TrainingJobResponse:
    """Ask a job to stop after the epoch it is in; asked again, it is the same."""
    stopping = JobRepository(database).request_stop(job_id)
    job = JobListing(database).require(job_id)
    if not stopping:
        raise Refused(
            HTTPStatus.CONFLICT,
            f"job_id={job_id!r} neither waits nor runs but is {job.status}: there is nothing to stop",
        )
    return response_of(job, database)

"""Deleting a job and everything that it has stored."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated

from airflow.api_fastapi.core_api.security import GetUserDep  # noqa: TC002 - read at run time
from fastapi import APIRouter, Query, Request  # noqa: TC002 - FastAPI reads annotations at run time
from pydantic import BaseModel

from include.api.access import require_can_start
from include.api.airflow_runs import is_running
from include.api.database import Database  # noqa: TC001 - FastAPI reads annotations at run time
from include.api.jobs import JobId  # noqa: TC001 - FastAPI reads annotations at run time
from include.api.origin import require_same_origin
from include.api.own_jobs import require_own_job
from include.api.problems import ProblemError, responses
from include.audit.deletion import DeletionRefused, delete_job
from include.deployment.connections import open_bucket
from include.deployment.settings import Settings
from include.jobs.job import TRAINING_DAG

router = APIRouter(
    prefix="/jobs", tags=["jobs"], dependencies=[require_can_start(TRAINING_DAG), require_same_origin()]
)


class DeletedJob(BaseModel):
    """What was deleted: the number of objects, and their total size in bytes."""

    job_id: str
    objects: int
    bytes: int


@router.delete("/{job_id}", responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT))
def delete(
    request: Request,
    user: GetUserDep,
    database: Database,
    job_id: JobId,
    confirm: Annotated[str, Query(max_length=1024, description="The job's id, repeated.")],
) -> DeletedJob:
    """Delete one of your own jobs, with its checkpoints, pictures and report. This cannot be undone.

    Only the person who started a job may delete it. A job that is active, pinned, or needed by another job or
    by a model is kept.
    """
    job = require_own_job(database, job_id, user, "delete it")
    if confirm != job_id:
        raise ProblemError(
            HTTPStatus.CONFLICT, f"confirm={confirm!r:.200} is not the job's id; repeat the id"
        )
    bucket = open_bucket(Settings.from_environment(), interactive=True)
    try:
        deleted = delete_job(database, bucket, job, partial(is_running, request))
    except DeletionRefused as refusal:
        raise ProblemError(HTTPStatus.CONFLICT, str(refusal)) from None
    return DeletedJob(job_id=job_id, objects=deleted.objects, bytes=deleted.bytes)

"""Deleting a job and everything that it has stored, through a run of `delete_data`."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Query, Request

from include.api.airflow_runs import in_own_thread, is_running, trigger_run
from include.api.database import Database
from include.api.deletion_progress import DeletionStarted
from include.api.jobs import JobId, require_own_job
from include.api.origin import require_may_change
from include.api.problems import ProblemError, responses
from include.audit.deletion import require_deletable
from include.audit.deletion_request import DeletionRequest
from include.jobs.job import TRAINING_DAG

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=require_may_change(TRAINING_DAG))


@router.delete(
    "/{job_id}",
    status_code=HTTPStatus.ACCEPTED,
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
@in_own_thread
def delete(
    request: Request,
    user: GetUserDep,
    database: Database,
    job_id: JobId,
    confirm: Annotated[str, Query(max_length=1024, description="The job's id, repeated.")],
) -> DeletionStarted:
    """Delete a job with its checkpoints, pictures and report, by triggering `delete_data`.

    Only the job's owner and job administrators may do this. A job is kept if it is active or pinned, if an
    active job started from it, or if a model version comes from it; a version that was rejected and never
    promoted does not count. If a host application owns the table, the row stays. A deletion cannot be undone.
    """
    job = require_own_job(database, job_id, user, "delete it")
    if confirm != job_id:
        raise ProblemError(
            HTTPStatus.CONFLICT, f"confirm={confirm!r:.200} is not the job's id; repeat the id"
        )
    require_deletable(database, job, partial(is_running, request))
    return DeletionStarted(run_id=trigger_run(request, DeletionRequest(job_id=job_id)))

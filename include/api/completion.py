"""Completing jobs that were trained outside Airflow."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from airflow.api_fastapi.core_api.security import GetUserDep
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter

from include.api.database import open_database
from include.api.job_response import TrainingJobResponse, build_response
from include.api.jobs import JobId, require_own_job
from include.api.origin import require_may_change
from include.api.problems import responses
from include.deployment.connections import open_bucket
from include.deployment.settings import Settings
from include.jobs.callback import TrainingCompletionCallback
from include.jobs.completion import Completion
from include.jobs.job import TRAINING_DAG

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

_READERS = CapacityLimiter(2)
"""Maximum number of concurrent completions in this process. They read gigabytes, so they must not occupy the
threads that Airflow's routes share."""

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=require_may_change(TRAINING_DAG))


@router.post("/{job_id}/completion", responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT))
async def complete_job(
    job_id: JobId, callback: TrainingCompletionCallback, user: GetUserDep
) -> TrainingJobResponse:
    """Verify the checkpoints and the report of a job trained outside Airflow, and record how it ended.

    Only the job's owner and job administrators may do this. A job that only a host application has written
    has no owner, so everyone who may start training runs may complete it. The files must be under the job's
    own keys in the bucket; a file that could run code when it is loaded is refused. Omitted values are taken
    from the files and from the job. Repeating the request changes nothing. The request takes as long as
    reading both files.
    """
    return await to_thread.run_sync(_complete, job_id, callback, user, limiter=_READERS)


def _complete(job_id: str, callback: TrainingCompletionCallback, user: BaseUser) -> TrainingJobResponse:
    with open_database() as database:
        require_own_job(database, job_id, user, "complete it")
    bucket = open_bucket(Settings.from_environment())
    job = Completion(job_id, callback, open_database, bucket, user.get_name()).record()
    with open_database() as database:
        return build_response(job, database)

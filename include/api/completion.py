"""Completion of jobs that were trained outside Airflow."""

from __future__ import annotations

from http import HTTPStatus

from airflow.api_fastapi.core_api.security import GetUserDep  # noqa: TC002 - read at run time
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter

from include.api.access import may_start
from include.api.database import connected
from include.api.job_response import TrainingJobResponse, response_of  # noqa: TC001 - read at run time
from include.api.jobs import JobId  # noqa: TC001 - FastAPI reads annotations at run time
from include.api.origin import from_own_pages
from include.api.problems import Refused, responses
from include.deployment.connections import open_bucket
from include.deployment.settings import Settings
from include.jobs.callback import TrainingCompletionCallback  # noqa: TC001 - as above
from include.jobs.completion import Completion, CompletionConflict, CompletionRefused
from include.jobs.job import TRAINING_DAG

_READERS = CapacityLimiter(2)
"""Reads of gigabytes at once in this process, in threads of their own: Airflow's routes share the others."""

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=[may_start(TRAINING_DAG), from_own_pages()])


@router.post("/{job_id}/completion", responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT))
async def complete_job(
    job_id: JobId, told: TrainingCompletionCallback, user: GetUserDep
) -> TrainingJobResponse:
    """Record a job that was trained elsewhere, once both of its checkpoints were read and are what is told.

    They must be at the job's own places in the bucket. What is left out is taken from the objects and from
    the job; the same completion sent again changes nothing. It takes as long as reading both files does. A
    file that could run code where it is loaded is refused.
    """
    return await to_thread.run_sync(_complete, job_id, told, user.get_name(), limiter=_READERS)


def _complete(job_id: str, told: TrainingCompletionCallback, user: str) -> TrainingJobResponse:
    completion = Completion(job_id, told, connected, open_bucket(Settings.from_environment()), user)
    try:
        job = completion.record()
    except CompletionRefused as error:
        raise Refused(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from None
    except CompletionConflict as error:
        raise Refused(HTTPStatus.CONFLICT, str(error)) from None
    with connected() as database:
        return response_of(job, database)

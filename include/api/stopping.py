"""Stopping a job: a running job keeps its state and can be resumed, a queued job is cancelled at once."""

from __future__ import annotations

import threading
from http import HTTPStatus
from typing import Literal

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from include.api.airflow_runs import end_run, in_own_thread
from include.api.database import Database
from include.api.job_response import TrainingJobResponse, build_response
from include.api.jobs import JobId, require_own_job
from include.api.origin import require_may_change
from include.api.problems import ProblemError, responses
from include.attempt.tracking import track_recorded
from include.deployment.connections import training_db_factory
from include.jobs.job import TRAINING_DAG
from include.jobs.listing import JobListing
from include.jobs.repository import JobRepository


class StopBody(BaseModel):
    """When the job stops."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: Literal["now", "after_epoch"] = "now"


router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=require_may_change(TRAINING_DAG))


@router.post(
    "/{job_id}/stop",
    status_code=HTTPStatus.ACCEPTED,
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
)
@in_own_thread
def stop_job(
    request: Request,
    user: GetUserDep,
    job_id: JobId,
    database: Database,
    body: StopBody = StopBody(),  # noqa: B008 - it is frozen
) -> TrainingJobResponse:
    """Ask a job to stop after its current batch, or after its current epoch if `when` is `after_epoch`.

    Only the job's owner and job administrators may do this. The job notices within ten seconds, and keeps its
    state. Repeating the request changes nothing, except that `now` overrides `after_epoch`. A job that waits
    for its user's quota or for a GPU is stopped at once. Its run is then marked as failed if the user may
    edit runs; otherwise the run fails by itself.
    """
    require_own_job(database, job_id, user, "stop it")
    jobs = JobRepository(database)
    run = jobs.cancel(job_id)
    if run is not None:
        # No task of a cancelled run tells MLflow. A thread does, so that the request need not wait.
        threading.Thread(target=_track, args=(job_id,), daemon=True).start()
        end_run(request, *run)
    stopping = run is not None or jobs.request_stop(job_id, after_epoch=body.when == "after_epoch")
    job = JobListing(database).require(job_id)
    if not stopping:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"job_id={job_id!r} is {job.status}; only queued or running jobs can be stopped",
        )
    return build_response(job, database)


def _track(job_id: str) -> None:
    track_recorded(job_id, training_db_factory())

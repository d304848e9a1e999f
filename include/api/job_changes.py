"""Changing jobs: stopping, archiving and deleting them, and completing jobs trained outside Airflow.

A running job that is stopped keeps its state and can be resumed; a queued job is cancelled immediately.
Archiving a job deletes nothing: the console's list only hides the job by default. A run of `delete_data`
deletes a job and everything that the job has stored.
"""

from __future__ import annotations

import threading
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Literal

from airflow.api_fastapi.core_api.security import GetUserDep
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Request

from include.api.airflow_runs import end_run, in_own_thread, is_run_active, trigger_run
from include.api.bodies import RequestBody
from include.api.database import Database, open_database
from include.api.deletion_progress import DeletionStarted
from include.api.deployment import CurrentSettings
from include.api.job_response import TrainingJobResponse, build_response
from include.api.jobs import JobId
from include.api.origin import require_may_change
from include.api.problems import ProblemError, describe_errors
from include.attempt.tracking import track_recorded
from include.audit.deletion import DeletionRequest, require_deletable
from include.deployment.connections import open_bucket, prepare_training_db
from include.jobs.callback import TrainingCompletionCallback
from include.jobs.completion import record_completion
from include.jobs.job import TRAINING_DAG
from include.jobs.listing import JobListing
from include.jobs.repository import JobRepository

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from psycopg import Connection

    from include.deployment.settings import Settings
    from include.jobs.job import TrainingJob
    from include.jobs.ownership import JobOwnership

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=require_may_change(TRAINING_DAG))

_REFUSALS = describe_errors(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT)

_READERS = CapacityLimiter(2)
"""Maximum number of concurrent completions in this process. They read gigabytes, so they must not occupy the
threads that Airflow's routes share."""


class StopBody(RequestBody):
    """When the job stops."""

    when: Literal["now", "after_epoch"] = "now"
    """`now` stops the job after its current batch, `after_epoch` after its current epoch."""


@router.post("/{job_id}/completion", responses=_REFUSALS)
async def complete_job(
    job_id: JobId, callback: TrainingCompletionCallback, user: GetUserDep, settings: CurrentSettings
) -> TrainingJobResponse:
    """Verify the checkpoints and the report of a job trained outside Airflow, and record how it ended.

    Only the job's owner and job administrators may do this. A job that only a host application has written
    has no owner, so everyone who may start training runs may complete it. The files must be under the job's
    own keys in the bucket; a file that could run code when it is loaded is refused. Omitted values are taken
    from the files and from the job. Repeating the request changes nothing. The request takes as long as
    reading both files.
    """
    return await to_thread.run_sync(_complete, job_id, callback, user, settings, limiter=_READERS)


def _complete(
    job_id: str, callback: TrainingCompletionCallback, user: BaseUser, settings: Settings
) -> TrainingJobResponse:
    with open_database() as database:
        _require_own_job(database, job_id, user, settings.ownership, "complete it")
    bucket = open_bucket(settings)
    job = record_completion(job_id, callback, open_database, bucket, user.get_name())
    with open_database() as database:
        return build_response(job, database, settings.bucket)


@router.post("/{job_id}/stop", status_code=HTTPStatus.ACCEPTED, responses=_REFUSALS)
@in_own_thread
def stop_job(
    request: Request,
    user: GetUserDep,
    job_id: JobId,
    database: Database,
    settings: CurrentSettings,
    body: StopBody = StopBody(),  # noqa: B008 - it is frozen
) -> TrainingJobResponse:
    """Ask a job to stop after its current batch, or after its current epoch if `when` is `after_epoch`.

    Only the job's owner and job administrators may do this. The job notices the request within ten seconds,
    and its state is kept. Repeating the request changes nothing, except that `now` overrides `after_epoch`. A
    job that waits for its user's quota or for a GPU is stopped immediately. If the user may edit runs, its
    run is then marked as failed; otherwise, the run fails by itself.
    """
    _require_own_job(database, job_id, user, settings.ownership, "stop it")
    jobs = JobRepository(database)
    run = jobs.cancel(job_id)
    if run is not None:
        # A cancelled run has no task that reports to MLflow, so a thread reports in the background.
        threading.Thread(target=lambda: track_recorded(job_id, prepare_training_db()), daemon=True).start()
        end_run(request, *run)
    stopping = run is not None or jobs.request_stop(job_id, after_epoch=body.when == "after_epoch")
    job = JobListing(database).require(job_id)
    if not stopping:
        raise ProblemError(
            HTTPStatus.CONFLICT,
            f"job_id={job_id!r} is {job.status}; only queued or running jobs can be stopped",
        )
    return build_response(job, database, settings.bucket)


@router.post("/{job_id}/archive", responses=_REFUSALS)
def archive_job(
    user: GetUserDep, database: Database, settings: CurrentSettings, job_id: JobId
) -> TrainingJobResponse:
    """Archive a job that has ended: the console lists it only on request, and nothing is deleted.

    Only the job's owner and job administrators may do this. Repeating the request changes nothing. A new run
    of the job unarchives it.
    """
    return _set_archived(user, database, settings, job_id, archived=True)


@router.delete("/{job_id}/archive", responses=_REFUSALS)
def unarchive_job(
    user: GetUserDep, database: Database, settings: CurrentSettings, job_id: JobId
) -> TrainingJobResponse:
    """Unarchive a job.

    Only the job's owner and job administrators may do this. Repeating the request changes nothing.
    """
    return _set_archived(user, database, settings, job_id, archived=False)


def _set_archived(
    user: BaseUser, database: Connection[Any], settings: Settings, job_id: str, *, archived: bool
) -> TrainingJobResponse:
    _require_own_job(database, job_id, user, settings.ownership, "archive or unarchive it")
    if not JobRepository(database).set_archived(job_id, archived=archived):
        raise ProblemError(
            HTTPStatus.CONFLICT, f"job_id={job_id!r} is still active and cannot be archived: stop it first"
        )
    return build_response(JobListing(database).require(job_id), database, settings.bucket)


@router.delete("/{job_id}", status_code=HTTPStatus.ACCEPTED, responses=_REFUSALS)
@in_own_thread
def delete(
    request: Request,
    user: GetUserDep,
    database: Database,
    settings: CurrentSettings,
    job_id: JobId,
    confirm: Annotated[str, Query(max_length=1024, description="The job's id again, as a confirmation.")],
) -> DeletionStarted:
    """Delete a job with its checkpoints, pictures and report, by triggering `delete_data`.

    Only the job's owner and job administrators may do this. The request is refused if the job is active or
    pinned, if an active job started from it, or if a model version comes from it. Versions that were rejected
    and never promoted do not count. If a host application owns the table, the row stays. A deletion cannot
    be undone.
    """
    job = _require_own_job(database, job_id, user, settings.ownership, "delete it")
    if confirm != job_id:
        raise ProblemError(
            HTTPStatus.CONFLICT, f"confirm={confirm!r:.200} is not the job's id; set confirm to the id"
        )
    require_deletable(database, job, partial(is_run_active, request))
    return DeletionStarted(run_id=trigger_run(request, DeletionRequest(job_id=job_id)))


def _require_own_job(
    database: Connection[Any], job_id: str, user: BaseUser, ownership: JobOwnership, action: str
) -> TrainingJob:
    """Return the job if the user may change it, as its owner or as a job administrator.

    `action` completes the message "only its owner may …". Raises JobUnknown, and ProblemError (403) if the
    user may not change the job.
    """
    job = JobListing(database).require(job_id)
    if not ownership.may_change(user.get_name(), job):
        raise ProblemError(HTTPStatus.FORBIDDEN, f"{ownership.explain(job)} {action}")
    return job

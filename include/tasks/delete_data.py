"""The work of `delete_data`: deletes a job or a version of a dataset, with its objects in S3."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from include.audit.dataset_deletion import delete_unused_objects, delete_version
from include.audit.deletion import (
    Deletion,
    DeletionRefused,
    DeletionRequest,
    delete_job,
    require_not_restarted,
)
from include.audit.report import format_size
from include.deployment.connections import open_maintenance_bucket, open_training_db
from include.deployment.retrying import retry_while_unavailable
from include.deployment.settings import Settings
from include.jobs.repository import JobRepository
from include.orchestration.failures import keep_refusal
from include.orchestration.notes import leave_note
from include.orchestration.runs import is_running
from include.registry.repository import DatasetRepository
from include.registry.version import DatasetVersion

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import DagRunProtocol
    from psycopg import Connection

    from include.jobs.ownership import JobOwnership
    from include.s3.bucket import Bucket

log = logging.getLogger(__name__)

_BEGUN = "deleted_version"
"""Key in task_state_store; the value describes the version whose objects the task has begun to delete."""


def delete_data(context: Context) -> Deletion:
    """Delete the job or version given in the run's conf; return what was deleted.

    A job or version that no longer exists counts as deleted, because a retry may follow a deletion that
    succeeded.
    """
    run = context["dag_run"]
    with keep_refusal(context):
        request = DeletionRequest.parse(run.conf)
        settings = Settings.from_environment()
        bucket = open_maintenance_bucket(settings)
        with open_training_db() as connection:
            if request.job_id is not None:
                deleted = _delete_job(connection, bucket, request.job_id, run, settings.ownership)
            else:
                deleted = _delete_version(connection, bucket, request, context)
    what = request.job_id or request.dataset
    sentence = f"Deleted {what}: {deleted.objects} objects, {format_size(deleted.bytes)}."
    log.info("%s", sentence)
    leave_note(context, sentence)
    return deleted


def _delete_job(
    connection: Connection[Any], bucket: Bucket, job_id: str, run: DagRunProtocol, ownership: JobOwnership
) -> Deletion:
    job = JobRepository(connection).get(job_id)
    if job is None:
        return Deletion(0, 0)
    if not ownership.may_change(ownership.determine_owner(run.triggering_user_name), job):
        raise DeletionRefused(f"{ownership.explain(job)} delete it")
    require_not_restarted(connection, job, run.run_after)
    return delete_job(connection, bucket, job, is_running)


def _delete_version(
    connection: Connection[Any], bucket: Bucket, request: DeletionRequest, context: Context
) -> Deletion:
    assert request.version is not None  # noqa: S101 - the request names a job otherwise
    user, notes = context["dag_run"].triggering_user_name, context["task_state_store"]
    version = DatasetRepository(connection).get(*request.version)
    if version is not None:
        if version.created_by not in {None, user}:
            raise DeletionRefused(
                f"{version} was registered by {version.created_by}: only that person may delete it"
            )
        # If this attempt is killed, the next one does not find the version, but deletes the other objects.
        notes.set(_BEGUN, version.model_dump(mode="json", exclude={"class_table", "warnings"}))
        delete_version(connection, version)
    elif isinstance(begun := notes.get(_BEGUN), dict):
        version = DatasetVersion.model_validate({**begun, "class_table": None, "warnings": None})
    else:
        return Deletion(0, 0)
    return retry_while_unavailable(lambda: _delete_objects(bucket, version))


def _delete_objects(bucket: Bucket, version: DatasetVersion) -> Deletion:
    with open_training_db() as connection:
        return delete_unused_objects(connection, bucket, version)

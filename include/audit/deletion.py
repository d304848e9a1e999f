"""The parameters of `delete_data`; deletes a job and all that it stored, unless something needs the job."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from include.database import Statements
from include.datasets.errors import DatasetError
from include.datasets.registered import RegisteredName, parse_registered
from include.errors import Conflict
from include.jobs.job import TRAINING_DAG
from include.jobs.parameters import OptionalText
from include.limits import TEXT
from include.request import LenientRequest
from include.s3.layout import CHECKPOINTS, PICTURES, REPORTS, build_checked_dataset_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from psycopg import Connection

    from include.jobs.job import TrainingJob
    from include.s3.bucket import Bucket
    from include.s3.listing import ListedObject


DELETION_DAG = "delete_data"


class DeletionRequest(LenientRequest):
    """The parameters of `delete_data`; exactly one of them must be given."""

    dag_id = DELETION_DAG

    job_id: OptionalText = Field(None, max_length=TEXT, description="The job to delete.")
    dataset: OptionalText = Field(
        None, max_length=TEXT, description="The version of a dataset to delete, such as parts@3."
    )

    @model_validator(mode="after")
    def _require_one(self) -> Self:
        if (self.job_id is None) == (self.dataset is None):
            raise ValueError("give either job_id or dataset")
        if self.dataset is not None:
            self.version  # noqa: B018 - raises an error unless the text names a version
        return self

    @property
    def version(self) -> tuple[str, int] | None:
        """Name and number of the dataset's version; None if a job is to be deleted."""
        if self.dataset is None:
            return None
        try:
            named = parse_registered(self.dataset) or RegisteredName(self.dataset, None)
        except DatasetError as error:
            raise ValueError(str(error)) from None
        if named.version is None:
            raise ValueError(f"dataset={self.dataset!r} does not name a version: give name@version")
        return named.name, named.version


class DeletionRefused(Conflict):
    """The job or version must be kept, or the user may not delete it; the message says why."""


@dataclass(frozen=True)
class Deletion:
    """The objects that were deleted."""

    objects: int
    """Number of objects."""
    bytes: int
    """Their total size."""


def delete_job(
    connection: Connection[Any], bucket: Bucket, job: TrainingJob, is_running: Callable[[str, str], bool]
) -> Deletion:
    """Delete the job's objects, then its row unless the table belongs to a host application.

    The deletion works in steps: if it is interrupted, calling this function again deletes the rest.
    `is_running(dag_id, run_id)` says whether Airflow is still executing that Dag run. Raises
    DeletionRefused and StoreErrors.
    """
    needed = require_deletable(connection, job, is_running)
    # Listed first: once the row is given up, a new run may start the job over, and what it stores is kept.
    stored = list(_list_objects(bucket, job.job_id))
    if not _give_up(connection, job):
        raise DeletionRefused(f"job_id={job.job_id!r} has changed in the meantime; review it again")
    objects = size = 0
    for item in stored:
        if bucket.delete_listed(item):
            objects, size = objects + 1, size + item.size
    if needed.is_own_table:
        with connection.transaction():
            statements = Statements(connection)
            if statements.execute("delete_job", job_id=job.job_id, run_id=job.run_id):
                statements.execute("delete_epochs", job_id=job.job_id, first_epoch=0)
    return Deletion(objects, size)


def _give_up(connection: Connection[Any], job: TrainingJob) -> bool:
    """Make the row name no object; return False if the job must be kept after all."""
    statements = Statements(connection)
    with connection.transaction():
        statements.fetch_all("lock_jobs", job_ids=[job.job_id])
        return statements.fetch_one("give_up_job", job_id=job.job_id, run_id=job.run_id) is not None


def _list_objects(bucket: Bucket, job_id: str) -> Iterator[ListedObject]:
    for prefix in (CHECKPOINTS, PICTURES, REPORTS):
        yield from bucket.list_objects(f"{prefix}{job_id}/")
    key = build_checked_dataset_key(job_id)
    # Another job's key may start with this key: if this job is named a and the other one a.json, the keys are
    # a.json and a.json.json.
    yield from (item for item in bucket.list_objects(key) if item.location.key == key)


def require_not_restarted(connection: Connection[Any], job: TrainingJob, requested_at: datetime) -> None:
    """Raise DeletionRefused if the job was started again after its deletion was requested.

    A request may wait for days for a worker, and a retry may follow a deletion that succeeded. A run that was
    triggered before the request may also start after it, or be cleared.
    """
    with connection.transaction():
        found = Statements(connection).fetch_one("find_last_start", job_id=job.job_id)
    started_at = found.started_at if found else None
    if started_at is not None and started_at > requested_at:
        raise DeletionRefused(
            f"run {job.run_id} started job_id={job.job_id!r} again at {started_at:%Y-%m-%d %H:%M:%S %Z}, "
            f"after its deletion was requested at {requested_at:%Y-%m-%d %H:%M:%S %Z}, so the job is kept; "
            "to delete what that run has stored, request the deletion again"
        )


def require_deletable(
    connection: Connection[Any], job: TrainingJob, is_running: Callable[[str, str], bool]
) -> Any:
    """Raise DeletionRefused if the job must be kept; otherwise return the row of `find_reasons_to_keep`."""
    with connection.transaction():
        needed = Statements(connection).fetch_one("find_reasons_to_keep", job_id=job.job_id)
    subject = f"job_id={job.job_id!r}"
    if job.dag_id != TRAINING_DAG or job.run_id is None:
        raise DeletionRefused(f"{subject} was not trained here; whoever wrote its row has to delete it")
    if job.is_active:
        raise DeletionRefused(f"{subject} has not ended: run {job.run_id} is active; stop it first")
    if is_running(job.dag_id, job.run_id):
        raise DeletionRefused(
            f"{subject} is {job.status}, but its run {job.run_id} is still ending; try again soon"
        )
    if job.pinned:
        raise DeletionRefused(f"{subject} is pinned to keep its state; unpin it first")
    if needed.children:
        raise DeletionRefused(
            f"{subject} is still needed by {', '.join(needed.children)}; try again once no job needs it"
        )
    if needed.versions:
        raise DeletionRefused(
            f"{subject} must be kept: it produced model {', '.join(needed.versions)}, whose history refers "
            "to the job"
        )
    return needed

"""Faults that people cause while a job is running."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from tests.support.faults.fault import Fault
from tests.support.faults.job import Job
from tests.support.faults.moments import MOMENTS
from tests.support.faults.scene import TASK
from tests.support.faults.task_process import FAILED
from tests.support.interrupted_attempts import store_model

Injected = Callable[[Job], AbstractContextManager[None]]


def _once(act: Callable[[Job], None]) -> Injected:
    """Return a context manager that causes a fault and never undoes it."""

    @contextmanager
    def inject(job: Job) -> Iterator[None]:
        act(job)
        yield

    return inject


def _delete_row(job: Job) -> None:
    with job.scene.connect() as connection:
        connection.execute("DELETE FROM training_jobs WHERE job_id = %s", [job.job_id])


def _delete_objects(job: Job) -> None:
    """Delete all objects of this job."""
    client, bucket = job.scene.client, job.scene.place.bucket
    listing = client.list_objects_v2(Bucket=bucket, Prefix=f"checkpoints/{job.job_id}/")
    for item in listing.get("Contents", []):
        client.delete_object(Bucket=bucket, Key=item["Key"])


@contextmanager
def _delete_bucket(job: Job) -> Iterator[None]:
    """Delete the bucket, then create it again with the model that jobs start from."""
    place, exceptions = job.scene.place, job.scene.place.client.exceptions
    try:
        for page in place.client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket):
            for item in page.get("Contents", []):
                place.client.delete_object(Bucket=place.bucket, Key=item["Key"])
        place.client.delete_bucket(Bucket=place.bucket)
        yield
    finally:
        with suppress(exceptions.BucketAlreadyExists, exceptions.BucketAlreadyOwnedByYou):
            place.client.create_bucket(Bucket=place.bucket)
        store_model(place, TASK)


def _stop(job: Job) -> None:
    with job.scene.connect() as connection:
        connection.execute("UPDATE training_jobs SET stop_requested = true WHERE job_id = %s", [job.job_id])


def _change_data(job: Job) -> None:
    """Replace one image with another."""
    first, second = sorted(job.data.glob("train/*/*"))[:2]
    shutil.copyfile(second, first)


def _trigger_again(job: Job) -> None:
    """Trigger another run with the same id, which must be refused while this one is running."""
    folder = job.folder / "second-run"
    folder.mkdir()
    with job.make(["resolve_config"], 1, job.dag_run._replace(run_id="run2", folder=folder)) as attempt:
        if attempt.status() != FAILED:
            job.outcome.problems.append("a second run of the same id was not refused")


@contextmanager
def _start_next_early(job: Job) -> Iterator[None]:
    """Start the next attempt while the current one still exists, as if Airflow considered it dead.

    A current attempt that stopped itself for the fault stays stopped, as if it hung.
    """
    job.start(job.tasks)
    yield


_ALL_BUT_THE_END = tuple(moment.name for moment in MOMENTS if moment.name not in ("record", "notify"))
_ONCE_IT_HAS_A_ROW = tuple(moment.name for moment in MOMENTS[1:])

PEOPLE_FAULTS = (
    Fault(
        "row deleted", "people", _once(_delete_row), seconds=0, ends=("completed", "failed", None)
    ),
    Fault(
        "objects deleted", "people", _once(_delete_objects), seconds=0, ends=("completed", "failed"),
        moments=_ALL_BUT_THE_END,
    ),
    Fault(
        "bucket deleted", "people", _delete_bucket, ends=("completed", "failed", None),
        moments=_ALL_BUT_THE_END,
    ),
    Fault("stop requested", "people", _once(_stop), seconds=0, ends=("completed", "stopped")),
    Fault(
        "data changed", "people", _once(_change_data), seconds=0, ends=("completed", "failed"),
        moments=_ONCE_IT_HAS_A_ROW, own_data=True,
    ),
    Fault(
        "same id triggered again", "people", _once(_trigger_again), seconds=0, moments=_ONCE_IT_HAS_A_ROW
    ),
    Fault("next attempt starts early", "people", _start_next_early, moments=_ONCE_IT_HAS_A_ROW),
)  # fmt: skip
"""Objects are deleted only before their verification; the audit finds later deletions."""

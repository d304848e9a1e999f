"""What people may do to a job that is under way."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

from tests.faults.fault import Fault
from tests.faults.job import Job
from tests.faults.moments import MOMENTS
from tests.faults.scene import TASK
from tests.faults.task_process import FAILED
from tests.interrupted_attempts import store_model

Injected = Callable[[Job], AbstractContextManager[None]]


def _once(act: Callable[[Job], None]) -> Injected:
    """A fault that nobody takes back."""

    @contextmanager
    def injected(job: Job) -> Iterator[None]:
        act(job)
        yield

    return injected


def _delete_row(job: Job) -> None:
    with job.scene.connect() as connection:
        connection.execute("DELETE FROM training_jobs WHERE job_id = %s", [job.job_id])


def _delete_objects(job: Job) -> None:
    """Of this job, all that is there."""
    client, bucket = job.scene.client, job.scene.place.bucket
    listing = client.list_objects_v2(Bucket=bucket, Prefix=f"checkpoints/{job.job_id}/")
    for each in listing.get("Contents", []):
        client.delete_object(Bucket=bucket, Key=each["Key"])


@contextmanager
def _without_bucket(job: Job) -> Iterator[None]:
    """It is made anew, and the model that jobs begin with put there again."""
    place, exceptions = job.scene.place, job.scene.place.client.exceptions
    try:
        for page in place.client.get_paginator("list_objects_v2").paginate(Bucket=place.bucket):
            for each in page.get("Contents", []):
                place.client.delete_object(Bucket=place.bucket, Key=each["Key"])
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
    """One image becomes another one."""
    first, second = sorted(job.data.glob("train/*/*"))[:2]
    shutil.copyfile(second, first)


def _trigger_again(job: Job) -> None:
    """Another run with the same id is refused while this one goes on."""
    folder = job.folder / "second-run"
    folder.mkdir()
    with job.make(["resolve_config"], 1, job.dag_run._replace(run_id="run2", folder=folder)) as attempt:
        if attempt.status() != FAILED:
            job.outcome.problems.append("a second run of the same id was not refused")


@contextmanager
def _overtaken(job: Job) -> Iterator[None]:
    """Airflow takes the attempt for dead and starts the next one, while it still works."""
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
        "bucket deleted", "people", _without_bucket, ends=("completed", "failed", None),
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
    Fault("next attempt starts early", "people", _overtaken, moments=_ONCE_IT_HAS_A_ROW),
)  # fmt: skip
"""Objects that are deleted after they were verified are what the audit finds; here they are left out."""

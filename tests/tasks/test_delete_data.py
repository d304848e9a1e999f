"""delete_data deletes only data that the run's user may delete and that nothing else uses."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import psycopg
import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from include.audit.deletion import Deletion
from include.datasets.reference import DatasetVersionName
from include.datasets.uploads.plan import UploadFile, plan_upload
from include.datasets.uploads.store import UploadStore
from include.jobs.repository import DatasetGone, JobRepository
from include.registry.repository import DatasetRepository
from include.s3.bucket import Bucket
from include.tasks.delete_data import delete_data
from tests.support.airflow_connections import lead_to
from tests.support.faults.task_process import Notes
from tests.support.jobs import claim, epoch_report, record_checkpoints, recorded
from tests.support.registered_datasets import register
from tests.support.stored_objects import keys
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from mypy_boto3_s3 import S3Client

    from include.s3.listing import ListedObject
    from include.stack.s3 import S3

JOB = (
    "checkpoints/a/best.pt",
    "checkpoints/a/last.pt",
    "pictures/a/curve.png",
    "reports/a/dataset.json",
    "datasets/jobs/a.json",
)
OF_OTHER_JOBS = (
    "checkpoints/ab/best.pt",
    "datasets/jobs/ab.json",
    "datasets/jobs/a.json.json",
    "models/m/versions/1/best.pt",
)

UPLOAD = f"20260101-000000-{'1' * 16}"
VERSION = (
    f"uploads/{UPLOAD}/data.zip",
    f"datasets/{'a' * 64}/data.yaml",
    f"datasets/manifests/{'a' * 64}-detect.jsonl.gz",
    f"datasets/reports/{'a' * 64}-detect.json",
    f"datasets/samples/{'a' * 64}-detect/0.jpg",
    f"datasets/differences/{'a' * 64}-detect/{'b' * 64}-detect.json",
    f"datasets/differences/{'b' * 64}-detect/{'a' * 64}-detect.json",
)
OF_OTHER_VERSIONS = (
    f"datasets/{'a' * 64}.jsonl.gz",  # jobs may still resume with it
    f"uploads/{UPLOAD[:-1]}2/data.zip",
    f"datasets/{'b' * 64}/data.yaml",
    f"datasets/{'b' * 64}.jsonl.gz",
    f"datasets/manifests/{'b' * 64}-detect.jsonl.gz",
    f"datasets/manifests/{'a' * 64}-segment.jsonl.gz",
    "datasets/jobs/a.json",
    "checkpoints/a/best.pt",
)
Delete = Callable[..., Deletion]


@pytest.fixture
def delete(monkeypatch: pytest.MonkeyPatch, migrated_url: str, s3: S3, bucket: str, tmp_path: Path) -> Delete:
    """Run the task `delete`, by default for ada, who has just requested it.

    It returns the number of objects and bytes deleted.
    """
    lead_to(monkeypatch, migrated_url, s3, bucket, tmp_path)
    # Airflow, which is absent here, would say that no run is active.
    monkeypatch.setattr("include.tasks.delete_data.is_running", lambda dag_id, run_id: False)

    def run(user: str = "ada", requested: datetime | None = None, **conf: Any) -> Deletion:
        requested = requested or datetime.now(UTC)
        context = {
            "dag_run": SimpleNamespace(
                conf=conf, run_id="manual__1", triggering_user_name=user, run_after=requested
            ),
            "ti": SimpleNamespace(xcom_push=lambda key, value: None),
            "task_state_store": Notes(tmp_path / "notes.json"),
        }
        return delete_data(cast("Context", context))

    return run


# --- jobs ---


@pytest.fixture
def ended(jobs: JobRepository, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str) -> None:
    """Job a of ada has ended and has every object that a job can have; S3 also has other objects."""
    claim(jobs)
    jobs.record_epoch("a", "run1", 1, epoch_report(0))
    record_checkpoints(connection)
    for key in (*JOB, *OF_OTHER_JOBS):
        s3_client.put_object(Bucket=bucket, Key=key, Body=b"1234")


@pytest.mark.usefixtures("ended")
def test_a_job_is_deleted_with_everything_that_it_has_stored_and_nothing_else(
    delete: Delete, jobs: JobRepository, s3_client: S3Client, bucket: str
) -> None:
    assert delete(job_id="a") == Deletion(5, 20)
    assert keys(s3_client, bucket) == set(OF_OTHER_JOBS)
    assert jobs.get("a") is None
    assert jobs.list_epochs("a") == []
    assert delete(job_id="a") == Deletion(0, 0)  # as in a retry after the deletion


@pytest.mark.usefixtures("ended")
def test_a_pinned_job_or_one_of_another_user_is_kept(
    delete: Delete, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str
) -> None:
    with pytest.raises(AirflowFailException, match="job_id='a' belongs to ada; only ada or"):
        delete("eve", job_id="a")
    connection.execute("UPDATE training_jobs SET pinned = TRUE")
    connection.commit()
    with pytest.raises(AirflowFailException, match="is pinned"):
        delete(job_id="a")
    assert keys(s3_client, bucket) == {*JOB, *OF_OTHER_JOBS}


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize(
    ("run_id", "triggered_before", "fresh"),
    [("run2", timedelta(0), True), ("run2", timedelta(days=3), True), ("run1", timedelta(days=3), False)],
    ids=["triggered", "triggered-before-the-request", "cleared"],
)
def test_a_job_that_was_started_again_after_its_deletion_was_requested_is_kept(
    delete: Delete,
    jobs: JobRepository,
    connection: psycopg.Connection[Any],
    s3_client: S3Client,
    bucket: str,
    run_id: str,
    triggered_before: timedelta,
    fresh: bool,
) -> None:
    """As after days without a worker for deletions, or in a retry of a deletion that succeeded."""
    requested = datetime.now(UTC) - timedelta(days=2)
    long_ago = datetime.now(UTC) - timedelta(days=4)
    connection.execute("UPDATE training_jobs SET queued_at = %(at)s, started_at = %(at)s", {"at": long_ago})
    connection.commit()
    queued_at = datetime.now(UTC) - triggered_before
    claim(jobs, run_id=run_id, expected="run1", fresh=fresh, queued_at=queued_at)
    jobs.leave_queue("a", run_id, 1)
    record_checkpoints(connection, run_id)
    with pytest.raises(AirflowFailException, match=rf"{run_id} started job_id='a' again at .*, after its"):
        delete(job_id="a", requested=requested)
    assert recorded(jobs).last_checkpoint_path is not None
    assert keys(s3_client, bucket) == {*JOB, *OF_OTHER_JOBS}
    assert delete(job_id="a").objects == 5


@pytest.mark.usefixtures("ended")
def test_what_a_new_run_stores_during_the_deletion_is_kept(
    delete: Delete, jobs: JobRepository, s3_client: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run starts the job over, and checks its dataset, as soon as the first object is deleted."""
    delete_listed = Bucket.delete_listed
    of_new_run = ("reports/a/dataset.json", "datasets/jobs/a.json")

    def delete_and_start(own: Bucket, item: ListedObject) -> bool:
        if recorded(jobs).run_id == "run1":
            claim(jobs, run_id="run2", expected="run1", fresh=True)
            for key in of_new_run:
                s3_client.put_object(Bucket=bucket, Key=key, Body=b"of run2")
        return delete_listed(own, item)

    monkeypatch.setattr(Bucket, "delete_listed", delete_and_start)
    assert delete(job_id="a").objects == 3
    assert keys(s3_client, bucket) == {*of_new_run, *OF_OTHER_JOBS}
    assert recorded(jobs).run_id == "run2"


@pytest.mark.usefixtures("ended")
def test_a_deletion_waits_for_a_job_that_is_being_recorded_as_a_child(
    delete: Delete, migrated_url: str, s3_client: S3Client, bucket: str
) -> None:
    with psycopg.connect(migrated_url) as claiming, ThreadPoolExecutor(1) as threads:
        with claiming.transaction():
            claim(JobRepository(claiming), "child", parent_job_id="a", resumed_epoch=2, fresh=True)
            deletion = threads.submit(delete, job_id="a")
            until(lambda: _blocks_somebody(claiming), "the deletion waits for the claim", seconds=30)
        with pytest.raises(AirflowFailException, match="job_id='a' has changed in the meantime"):
            deletion.result()
    assert keys(s3_client, bucket) == {*JOB, *OF_OTHER_JOBS}


def _blocks_somebody(connection: psycopg.Connection[Any]) -> bool:
    waiting = "SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    return connection.execute(waiting).fetchone() is not None


@pytest.mark.usefixtures("ended")
def test_the_row_of_a_host_application_is_kept_and_names_no_objects(
    delete: Delete, owner: psycopg.Connection[Any], jobs: JobRepository, s3_client: S3Client, bucket: str
) -> None:
    owner.execute("UPDATE training_schema_created SET kind = 'adopted' WHERE name = 'training_jobs'")
    try:
        assert delete(job_id="a").objects == 5
    finally:
        owner.execute("UPDATE training_schema_created SET kind = 'table' WHERE name = 'training_jobs'")
    job = recorded(jobs)
    assert (job.status, job.best_checkpoint_path, job.last_checkpoint_path) == ("completed", None, None)
    assert keys(s3_client, bucket) == set(OF_OTHER_JOBS)
    assert delete(job_id="a").objects == 0  # a repetition deletes only the rest after an interruption


# --- versions of datasets ---


@pytest.fixture
def filled(s3_client: S3Client, bucket: str) -> None:
    for key in (*VERSION, *OF_OTHER_VERSIONS):
        s3_client.put_object(Bucket=bucket, Key=key, Body=b"1234")
    upload = plan_upload([UploadFile(path="data.zip", size=4)], "ada").model_copy(
        update={"upload_id": UPLOAD}
    )
    UploadStore(Bucket(s3_client, bucket)).begin(upload)


def copy_in(bucket: str) -> str:
    """Return the URI of the converted copy."""
    return f"s3://{bucket}/datasets/{'a' * 64}/data.yaml"


@pytest.mark.usefixtures("filled")
def test_a_version_is_deleted_with_the_objects_that_only_it_uses(
    delete: Delete, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    origin = f"s3://{bucket}/uploads/{UPLOAD}/data.zip"
    register(datasets, "parts", "a", source=copy_in(bucket), origin=origin)
    assert delete(dataset="parts@1") == Deletion(len(VERSION), 4 * len(VERSION))
    assert keys(s3_client, bucket) == set(OF_OTHER_VERSIONS)
    assert delete(dataset="parts@1") == Deletion(0, 0)
    assert register(datasets, "parts", "a").version == 2


@pytest.mark.usefixtures("filled")
def test_the_next_attempt_deletes_the_objects_if_the_task_is_killed_after_it_has_deleted_the_version(
    delete: Delete,
    datasets: DatasetRepository,
    s3_client: S3Client,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    origin = f"s3://{bucket}/uploads/{UPLOAD}/data.zip"
    register(datasets, "parts", "a", source=copy_in(bucket), origin=origin)
    with monkeypatch.context() as killing:
        killing.setattr("include.tasks.delete_data.delete_unused_objects", lambda *_: sys.exit())
        with pytest.raises(SystemExit):
            delete(dataset="parts@1")
    assert datasets.get("parts", 1) is None
    assert delete(dataset="parts@1") == Deletion(len(VERSION), 4 * len(VERSION))
    assert keys(s3_client, bucket) == set(OF_OTHER_VERSIONS)


@pytest.mark.usefixtures("filled")
def test_a_converted_copy_is_found_by_its_uri_if_etags_are_not_hashes(
    delete: Delete, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    register(datasets, "parts", "c", source=copy_in(bucket))
    assert delete(dataset="parts@1").objects == 1
    assert f"datasets/{'a' * 64}/data.yaml" not in keys(s3_client, bucket)


@pytest.mark.usefixtures("filled")
def test_objects_that_other_versions_and_jobs_use_are_kept(
    delete: Delete, datasets: DatasetRepository, jobs: JobRepository, s3_client: S3Client, bucket: str
) -> None:
    origin = f"s3://{bucket}/uploads/{UPLOAD}/data.zip"
    register(datasets, "parts", "a", source=copy_in(bucket), origin=origin)
    register(datasets, "others", "a", source=copy_in(bucket), origin=origin)
    assert delete(dataset="parts@1").objects == 0
    claim(jobs, spec={"dataset": origin})
    jobs.record_dataset("a", "run1", "a" * 64)
    delete(dataset="others@1")
    left = set(VERSION) & keys(s3_client, bucket)
    assert left == set(VERSION[:2])  # used by the job to which the URI itself was given


@pytest.mark.usefixtures("filled")
def test_somebody_elses_upload_is_kept_when_a_version_of_it_is_deleted(
    delete: Delete, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    register(datasets, "parts", "c", source=f"s3://{bucket}/uploads/{UPLOAD}/data.zip", by=None)
    assert delete(dataset="parts@1").objects == 0
    assert VERSION[0] in keys(s3_client, bucket)


@pytest.mark.usefixtures("filled")
def test_a_copy_that_others_use_is_not_deleted_with_a_version_of_its_folder(
    delete: Delete, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    register(datasets, "parts", "a", source=copy_in(bucket), origin="s3://bucket/export.ndjson")
    register(datasets, "mine", "c", source=copy_in(bucket).removesuffix("data.yaml"))
    assert delete(dataset="mine@1").objects == 0
    assert f"datasets/{'a' * 64}/data.yaml" in keys(s3_client, bucket)


@pytest.mark.usefixtures("filled")
def test_a_copy_is_kept_while_a_job_that_may_use_it_is_active(
    delete: Delete, datasets: DatasetRepository, jobs: JobRepository, s3_client: S3Client, bucket: str
) -> None:
    for name in ("checked", "resumed"):
        register(datasets, name, "a", source=copy_in(bucket), origin="s3://bucket/export.ndjson")
    claim(jobs, "new", spec={"dataset": "s3://bucket/other.ndjson"})  # its check is still running
    delete(dataset="checked@1")
    jobs.record_dataset("new", "run1", "b" * 64)
    claim(jobs, "old", spec={"dataset": "s3://bucket/export.ndjson"})
    jobs.record_dataset("old", "run1", "a" * 64)
    claim(jobs, "old", "run2", "run1", spec={"dataset": "s3://bucket/export.ndjson"})
    assert recorded(jobs, "old").dataset_fingerprint == "a" * 64
    delete(dataset="resumed@1")
    assert f"datasets/{'a' * 64}/data.yaml" in keys(s3_client, bucket)
    claim(jobs, "old", "run3", "run2", fresh=True)
    assert recorded(jobs, "old").dataset_fingerprint is None


def test_a_user_cannot_delete_a_version_that_somebody_else_has_registered(
    delete: Delete, datasets: DatasetRepository
) -> None:
    register(datasets, "parts", "a", by="eve")
    register(datasets, "parts", "b", by=None)
    with pytest.raises(AirflowFailException, match="parts@1 was registered by eve: only that person may"):
        delete(dataset="parts@1")
    delete(dataset="parts@2")
    assert [version.version for version in datasets.list_versions("parts")] == [1]


def test_a_job_is_not_recorded_with_a_version_that_was_just_deleted(
    delete: Delete, datasets: DatasetRepository, jobs: JobRepository
) -> None:
    register(datasets, "parts", "a")
    delete(dataset="parts@1")
    with pytest.raises(DatasetGone, match="dataset='parts@1' has just been deleted"):
        claim(jobs, dataset=DatasetVersionName(name="parts", version=1))
    assert jobs.get("a") is None


def test_a_deletion_waits_for_a_job_that_is_being_recorded(
    delete: Delete, datasets: DatasetRepository, migrated_url: str
) -> None:
    register(datasets, "parts", "a")
    with psycopg.connect(migrated_url) as claiming, claiming.transaction():
        claim(JobRepository(claiming), dataset=DatasetVersionName(name="parts", version=1))
        threads = ThreadPoolExecutor(1)
        deletion = threads.submit(delete, dataset="parts@1")
        with pytest.raises(TimeoutError):
            deletion.result(0.5)
    with pytest.raises(AirflowFailException, match=r"these jobs were trained on it: a\."):
        deletion.result()


# --- requests ---


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({}, "give either job_id or dataset"),
        ({"job_id": "a", "dataset": "parts@1"}, "give either job_id or dataset"),
        ({"dataset": "parts"}, "dataset='parts' does not name a version: give name@version"),
        ({"dataset": "s3://b/k"}, "dataset='s3://b/k' does not name a version"),
        ({"dataset": "parts@x"}, "a version is a whole number from 1"),
        ({"job": "a"}, "job is not a parameter of delete_data"),
    ],
)
def test_a_request_names_one_job_or_one_version(delete: Delete, conf: dict[str, Any], message: str) -> None:
    with pytest.raises(AirflowFailException, match=message):
        delete(**conf)


def test_a_worker_without_the_maintenance_connection_fails_with_the_connections_name(
    delete: Delete, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_TRAINING_S3_MAINTENANCE")
    with pytest.raises(AirflowFailException, match="connection training_s3_maintenance does not exist on"):
        delete(job_id="a")

"""People request the deletion of their own jobs unless others need them; `delete_data` deletes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
import requests

from include.jobs.repository import JobRepository
from tests.support.jobs import claim, epoch_report, record_checkpoints
from tests.support.stored_objects import keys

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


KEYS = (
    "checkpoints/a/best.pt",
    "checkpoints/a/last.pt",
    "pictures/a/curve.png",
    "reports/a/dataset.json",
    "datasets/jobs/a.json",
)
OTHERS = ("checkpoints/ab/best.pt", "datasets/jobs/ab.json", "models/m/versions/1/best.pt")
Delete = Callable[..., requests.Response]

VERSION = (
    "INSERT INTO model_versions (name, version, job_id, path, sha256, size) "
    "VALUES ('m', 1, 'a', 's3://b/k', 'x', 1)"
)


@pytest.fixture
def delete_over_api(api_url: str) -> Delete:
    def send(job_id: str = "a", confirm: str = "a") -> requests.Response:
        return requests.delete(f"{api_url}/jobs/{job_id}", params={"confirm": confirm}, timeout=60)

    return send


@pytest.fixture(autouse=True)
def ended(jobs: JobRepository, connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str) -> None:
    """Job a of ada has ended and has every object that a job can have; S3 also has other objects."""
    claim(jobs)
    jobs.record_epoch("a", "run1", 1, epoch_report(0))
    record_checkpoints(connection)
    for key in (*KEYS, *OTHERS):
        s3_client.put_object(Bucket=bucket, Key=key, Body=b"1234")


def test_nothing_is_deleted_by_the_api_itself(
    delete_over_api: Delete, jobs: JobRepository, s3_client: S3Client, bucket: str
) -> None:
    assert delete_over_api().status_code == 503  # there is no Airflow here that could run delete_data
    assert jobs.get("a") is not None
    assert keys(s3_client, bucket) == {*KEYS, *OTHERS}
    assert delete_over_api("b", "b").status_code == 404


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE training_jobs SET status = 'running'", "has not ended: run run1 is active"),
        ("UPDATE training_jobs SET status = 'queued'", "has not ended: run run1 is active"),
        ("UPDATE training_jobs SET pinned = TRUE", "is pinned"),
        ("UPDATE training_jobs SET run_id = NULL", "was not trained here"),
        ("UPDATE training_jobs SET dag_id = 'their_dag'", "was not trained here"),
        (
            "INSERT INTO training_jobs (job_id, status, parent_job_id) VALUES ('child', 'queued', 'a')",
            "is still needed by child",
        ),
        (
            VERSION,
            "produced model m@1",
        ),
    ],
)
def test_a_job_that_is_still_needed_is_kept(
    delete_over_api: Delete,
    connection: psycopg.Connection[Any],
    s3_client: S3Client,
    bucket: str,
    change: str,
    message: str,
) -> None:
    connection.execute(change)
    connection.commit()
    answer = delete_over_api()
    assert answer.status_code == 409
    assert message in answer.json()["detail"]
    assert keys(s3_client, bucket) == {*KEYS, *OTHERS}


def test_a_deletion_needs_the_id_as_confirmation(
    delete_over_api: Delete, jobs: JobRepository, api_url: str
) -> None:
    assert delete_over_api(confirm="b").status_code == 409
    assert requests.delete(f"{api_url}/jobs/a", timeout=60).status_code == 422
    assert jobs.get("a") is not None

"""Downloads: a link to S3 for a recorded or stored checkpoint, or the reason why there is none."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
import requests

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.store import CheckpointStore
from include.deployment.connections import create_s3_signer
from include.jobs.repository import JobRepository
from include.s3.bucket import Bucket
from include.s3.location import S3Location
from include.s3.signed_links import sign_download
from include.stack.s3 import S3
from include.stack.s3_identities import Role
from tests.support.airflow_connections import lead_to
from tests.support.jobs import claim, record_checkpoints, started

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

Answer = Callable[..., requests.Response]


@pytest.fixture
def get_checkpoint(
    monkeypatch: pytest.MonkeyPatch, migrated_url: str, s3: S3, bucket: str, tmp_path: Path, open_api: str
) -> Answer:
    """GET a checkpoint of a job, without following the redirect."""
    lead_to(monkeypatch, migrated_url, s3, bucket, tmp_path, Role.API)
    monkeypatch.setenv("S3_PUBLIC_ENDPOINT_URL", s3.endpoint_url)
    return lambda kind="best", job_id="a": requests.get(
        f"{open_api}/jobs/{job_id}/checkpoints/{kind}", allow_redirects=False, timeout=60
    )


@pytest.fixture
def store(s3_client: S3Client, bucket: str) -> CheckpointStore:
    return CheckpointStore(Bucket(s3_client, bucket), run_id="run1")


def stored(
    store: CheckpointStore, tmp_path: Path, kind: Any, content: bytes, job_id: str = "a"
) -> Checkpoint:
    """Upload a file with that content under the checkpoint's key."""
    path = tmp_path / f"{kind}.pt"
    path.write_bytes(content)
    store.upload(Checkpoint.of_file(path, 2), "a", kind, "8.4")
    return Checkpoint.of_file(path, 2)


def completed(connection: psycopg.Connection[Any], bucket: str, **checkpoints: Checkpoint) -> None:
    """Complete job a, with these checkpoints in its row."""
    jobs = JobRepository(connection)
    started(jobs, epochs=3)
    record_checkpoints(connection)
    for kind, checkpoint in checkpoints.items():
        connection.execute(
            f"UPDATE training_jobs SET {kind}_checkpoint_path = %s, {kind}_checkpoint_sha256 = %s",
            [f"s3://{bucket}/checkpoints/a/{kind}.pt", checkpoint.sha256],
        )
    connection.commit()


def reason(answer: requests.Response) -> str:
    assert answer.status_code == 404, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert "location" not in answer.headers
    return str(answer.json()["detail"])


@pytest.mark.parametrize("kind", ["best", "last"])
def test_a_link_downloads_the_stored_bytes_without_a_login(
    get_checkpoint: Answer, store: CheckpointStore, connection: psycopg.Connection[Any], bucket: str,
    tmp_path: Path, s3: S3, kind: str,
) -> None:  # fmt: skip
    content = bytes(range(256)) * 5000
    checkpoint = stored(store, tmp_path, kind, content)
    completed(connection, bucket, **{kind: checkpoint})
    answer = get_checkpoint(kind)
    assert answer.status_code == 307, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "no-referrer"
    link = answer.headers["location"]
    signed = parse_qs(urlsplit(link).query)
    assert signed["X-Amz-Expires"] == ["300"]
    assert signed["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert s3.secret_key not in link
    file = requests.get(link, timeout=60)
    assert file.status_code == 200
    assert hashlib.sha256(file.content).hexdigest() == checkpoint.sha256
    assert file.headers["content-disposition"] == f'attachment; filename="a-{kind}.pt"'


def test_the_link_uses_the_public_endpoint(
    get_checkpoint: Answer, store: CheckpointStore, connection: psycopg.Connection[Any], bucket: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    completed(connection, bucket, best=stored(store, tmp_path, "best", b"weights"))
    monkeypatch.setenv("S3_PUBLIC_ENDPOINT_URL", "https://files.example.org")
    link = get_checkpoint().headers["location"]
    assert link.startswith(f"https://files.example.org/{bucket}/checkpoints/a/best.pt?")


@pytest.mark.parametrize(
    ("name", "value", "logged"),
    [
        (
            "S3_PUBLIC_ENDPOINT_URL",
            "files.example.org",
            "S3_PUBLIC_ENDPOINT_URL is not a URL such as https://",
        ),
        ("QUOTA_GPUS", "two", "QUOTA_GPUS='two' is not a whole number of GPUs"),
    ],
)
def test_the_log_names_an_invalid_setting(
    get_checkpoint: Answer, store: CheckpointStore, connection: psycopg.Connection[Any], bucket: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    name: str, value: str, logged: str,
) -> None:  # fmt: skip
    completed(connection, bucket, best=stored(store, tmp_path, "best", b"weights"))
    monkeypatch.setenv(name, value)
    answer = get_checkpoint()
    assert answer.status_code == 503
    assert answer.json()["detail"].startswith(
        "A setting of the API server is invalid: its log says which one"
    )
    assert logged in caplog.text


def test_without_a_public_endpoint_the_link_uses_that_of_the_connection(
    get_checkpoint: Answer, store: CheckpointStore, connection: psycopg.Connection[Any], bucket: str,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, s3: S3,
) -> None:  # fmt: skip
    completed(connection, bucket, best=stored(store, tmp_path, "best", b"weights"))
    monkeypatch.delenv("S3_PUBLIC_ENDPOINT_URL")
    link = get_checkpoint().headers["location"]
    assert link.startswith(f"{s3.endpoint_url}/{bucket}/checkpoints/a/best.pt?")
    assert requests.get(link, timeout=60).content == b"weights"


def test_a_link_to_amazons_own_s3_has_the_bucket_in_its_host_name(monkeypatch: pytest.MonkeyPatch) -> None:
    amazon = {"conn_type": "aws", "login": "key", "password": "secret", "extra": {"region_name": "eu-west-3"}}
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_S3", json.dumps(amazon))
    link = sign_download(create_s3_signer(None), S3Location("models", "checkpoints/a/best.pt"), "a.pt", 60)
    assert link.startswith("https://models.s3.eu-west-3.amazonaws.com/checkpoints/a/best.pt?")


def test_a_changed_or_expired_link_is_refused(
    get_checkpoint: Answer,
    store: CheckpointStore,
    connection: psycopg.Connection[Any],
    bucket: str,
    tmp_path: Path,
) -> None:
    completed(connection, bucket, best=stored(store, tmp_path, "best", b"weights"))
    stored(store, tmp_path, "last", b"state")
    link = get_checkpoint().headers["location"]
    assert requests.get(link, timeout=60).status_code == 200
    assert requests.get(link.replace("best.pt?", "last.pt?"), timeout=60).status_code == 403
    assert requests.get(link.replace("X-Amz-Expires=300", "X-Amz-Expires=301"), timeout=60).status_code == 403
    assert requests.put(link, data=b"planted", timeout=60).status_code == 403
    short = sign_download(create_s3_signer(None), S3Location(bucket, "checkpoints/a/best.pt"), "a.pt", 1)
    time.sleep(2.1)  # S3 counts in seconds
    assert requests.get(short, timeout=60).status_code == 403


@pytest.mark.parametrize("status", ["running", "failed"])
def test_a_job_without_recorded_checkpoints_offers_those_of_its_own_run(
    get_checkpoint: Answer, store: CheckpointStore, jobs: JobRepository, tmp_path: Path, status: str
) -> None:
    started(jobs, epochs=1)
    if status == "failed":
        jobs.fail_run("train_yolo", "run1", "out of memory")
    assert f"none has been stored yet, and the job is {status}" in reason(get_checkpoint("last"))
    stored(store, tmp_path, "last", b"after one epoch")
    assert requests.get(get_checkpoint("last").headers["location"], timeout=60).content == b"after one epoch"


def test_a_checkpoint_of_an_earlier_run_of_the_job_is_not_offered(
    get_checkpoint: Answer, store: CheckpointStore, jobs: JobRepository, tmp_path: Path
) -> None:
    started(jobs, epochs=1)
    stored(store, tmp_path, "last", b"of run1")
    jobs.fail_run("train_yolo", "run1", "out of memory")
    claim(jobs, run_id="run2", expected="run1", fresh=True)
    assert "belongs to another training run; this training run has not stored one" in reason(
        get_checkpoint("last")
    )


def test_a_file_that_differs_from_the_recorded_one_is_not_offered(
    get_checkpoint: Answer, store: CheckpointStore, connection: psycopg.Connection[Any], bucket: str,
    tmp_path: Path, s3_client: S3Client,
) -> None:  # fmt: skip
    completed(connection, bucket, best=stored(store, tmp_path, "best", b"weights"))
    s3_client.put_object(Bucket=bucket, Key="checkpoints/a/best.pt", Body=b"planted")
    assert "has since been replaced in S3 by another file" in reason(get_checkpoint())
    s3_client.delete_object(Bucket=bucket, Key="checkpoints/a/best.pt")
    assert "is no longer in S3" in reason(get_checkpoint())


def test_an_expired_state_says_when_it_was_deleted(
    get_checkpoint: Answer, connection: psycopg.Connection[Any], bucket: str
) -> None:
    completed(connection, bucket)
    connection.execute(
        "UPDATE training_jobs SET last_checkpoint_path = NULL, last_checkpoint_sha256 = NULL, "
        "last_checkpoint_expired_at = '2026-03-04 12:00+00'"
    )
    connection.commit()
    assert "the retention policy deleted it on 2026-03-04; best.pt is kept" in reason(get_checkpoint("last"))


def test_a_path_that_a_host_application_recorded_is_named_and_not_opened(
    get_checkpoint: Answer, connection: psycopg.Connection[Any], bucket: str, s3_client: S3Client
) -> None:
    completed(connection, bucket)
    for path in (f"s3://{bucket}/checkpoints/b/best.pt", "s3://platform/a/best.pt"):
        connection.execute("UPDATE training_jobs SET best_checkpoint_path = %s", [path])
        connection.commit()
        assert f"it is recorded at {path}, not at s3://{bucket}/checkpoints/a/best.pt" in reason(
            get_checkpoint()
        )


def test_an_unknown_job_has_no_checkpoints(get_checkpoint: Answer, jobs: JobRepository) -> None:
    started(jobs)
    assert "job_id='nobody' does not exist" in reason(get_checkpoint(job_id="nobody"))
    assert get_checkpoint("last.previous").status_code == 422


def test_an_outage_of_s3_is_reported_without_details(
    get_checkpoint: Answer, connection: psycopg.Connection[Any], bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    completed(connection, bucket)
    connection.execute(
        "UPDATE training_jobs SET best_checkpoint_path = %s", [f"s3://{bucket}/checkpoints/a/best.pt"]
    )
    connection.commit()
    away = {"conn_type": "aws", "login": "key", "password": "secret",
            "extra": {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"}}  # fmt: skip
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_S3", json.dumps(away))
    answer = get_checkpoint()
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "10"
    assert "S3 does not respond" in answer.json()["detail"]
    assert "127.0.0.1" not in answer.text

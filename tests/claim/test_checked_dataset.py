"""A resumed job keeps the dataset that it started with, and retries until rotated keys are corrected."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.attempt.attempt import TrainingAttempt
from include.claim.resolved_job import ResolvedJob
from include.deployment.connections import open_bucket
from include.deployment.retrying import is_transient
from include.deployment.settings import Settings
from include.jobs.repository import JobRepository
from include.s3.errors import RefusedForNow, StoreMisconfigured
from include.stack.s3 import S3
from include.tasks.train_yolo import check_job_dataset, resolve_config
from tests.support.airflow_connections import context_of, context_of_run, lead_to
from tests.support.dataset_steps import images, upload_files
from tests.support.jobs import claim, recorded, started
from tests.support.tiny_datasets import CLASSES, build
from tests.support.untrained import stored_state

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.datasets.reference import DatasetReference

Use = Callable[..., ResolvedJob]


@pytest.fixture
def use(
    monkeypatch: pytest.MonkeyPatch,
    migrated_url: str,
    s3: S3,
    s3_client: S3Client,
    bucket: str,
    tmp_path: Path,
) -> Use:
    """Switch to the named machine, and return job a as the named run has resolved it."""
    build("detect", tmp_path / "data", train=3, val=2)
    upload_files(s3_client, bucket, tmp_path / "data", "set/")

    def resolved(machine: str, run_id: str = "run1", origin_run_id: str = "run1") -> ResolvedJob:
        lead_to(monkeypatch, migrated_url, s3, bucket, tmp_path / machine)
        names = {"job_id": "a", "dag_id": "train_yolo", "run_id": run_id, "origin_run_id": origin_run_id}
        spec = {"dataset": f"s3://{bucket}/set/", "task": "detect", "model": "yolo11n"}
        return ResolvedJob.model_validate(names | {"spec": spec})

    return resolved


def check(job: ResolvedJob) -> DatasetReference:
    return check_job_dataset(job, context_of({}))


def attempt(job: ResolvedJob, reference: DatasetReference) -> TrainingAttempt:
    return TrainingAttempt(job, reference, 1, Settings.from_environment(), lambda: None)  # type: ignore[arg-type, return-value]


def add_an_image(client: S3Client, bucket: str, folder: Path) -> None:
    image = (folder / "data" / "images" / "train" / "0.png").read_bytes()
    client.put_object(Bucket=bucket, Key="set/images/train/new.png", Body=image)


def test_another_run_continues_with_the_data_that_training_started_with(
    use: Use, jobs: JobRepository, s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    begun = check(use("one"))
    started(jobs, epochs=1)
    add_an_image(s3_client, bucket, tmp_path)
    claim(jobs, run_id="run2", expected="run1")
    job = use("another", run_id="run2")
    assert check(job) == begun
    with ExitStack() as stack:
        local = attempt(job, begun)._fetch_dataset(open_bucket(Settings.from_environment()), stack)
        assert len(images(local)) == begun.train_images + begun.val_images


def test_a_job_whose_training_run_has_no_saved_state_takes_the_newest_data(
    use: Use, jobs: JobRepository, s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    begun = check(use("one"))
    started(jobs)
    add_an_image(s3_client, bucket, tmp_path)
    assert check(use("one")).train_images == begun.train_images + 1
    jobs.record_durable("a", "run1", 1, 0)
    s3_client.delete_object(Bucket=bucket, Key="set/images/train/new.png")
    assert check(use("one")).train_images == begun.train_images + 1
    claim(jobs, run_id="run2", expected="run1")
    assert check(use("one", run_id="run2", origin_run_id="run2")) == begun


def test_a_record_of_another_dataset_is_not_used(
    use: Use, jobs: JobRepository, s3_client: S3Client, bucket: str
) -> None:
    begun = check(use("one"))
    started(jobs, epochs=1)
    key = "datasets/jobs/a.json"
    stored = s3_client.get_object(Bucket=bucket, Key=key)["Body"].read()
    for content in (b"[", stored.replace(f"{bucket}/set/".encode(), b"elsewhere/set/")):
        s3_client.put_object(Bucket=bucket, Key=key, Body=content)
        assert check(use("one")) == begun


def wrong_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = json.loads(os.environ["AIRFLOW_CONN_TRAINING_S3"])
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_S3", json.dumps(connection | {"password": "rotated"}))


@pytest.mark.parametrize("epochs", [0, 1])
def test_rotated_keys_are_retried_if_there_is_a_state_to_resume(
    epochs: int, use: Use, jobs: JobRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = check(use("one"))
    started(jobs, epochs=epochs)
    job = use("another")
    wrong_keys(monkeypatch)
    with pytest.raises(RefusedForNow if epochs else StoreMisconfigured) as refused, ExitStack() as stack:
        attempt(job, reference)._fetch_dataset(open_bucket(Settings.from_environment()), stack)
    assert is_transient(refused.value) == (epochs > 0)
    with pytest.raises(RefusedForNow if epochs else AirflowFailException):
        check(job)
    error = recorded(jobs).error or ""
    assert ("training_s3" in error) == (epochs == 0), "no error is recorded for a retried attempt"


@pytest.mark.parametrize("epochs", [0, 1])
def test_resolve_config_retries_rotated_keys_if_there_is_a_state_to_resume(
    epochs: int, use: Use, jobs: JobRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = use("one")
    started(jobs, epochs=epochs)
    monkeypatch.setattr("include.tasks.train_yolo.is_running", lambda dag_id, run_id: False)
    wrong_keys(monkeypatch)
    with pytest.raises(RefusedForNow if epochs else AirflowFailException, match="training_s3"):
        resolve_config(context_of_run("run2", {"job_id": "a", "dataset": job.spec.dataset}))


def test_a_job_resumes_only_with_the_classes_of_its_state(
    use: Use, jobs: JobRepository, s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    started(jobs, epochs=1)
    stored_state(s3_client, bucket, tmp_path, "a", "run1", CLASSES[::-1])
    with pytest.raises(AirflowFailException, match=r"job 'a' was trained on 2 classes \(arrow, box\), but"):
        check(use("one"))

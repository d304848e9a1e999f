"""A job can name an export: all its runs, resumed ones included, train on the same converted dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.attempt.attempt import TrainingAttempt
from include.claim.dataset_check import check_parameter, inspect_source
from include.claim.resolved_job import ResolvedJob
from include.datasets.rules import CheckRules
from include.deployment.connections import open_bucket, open_training_db
from include.deployment.settings import SettingRefused, Settings
from include.jobs.repository import JobRepository
from include.registry.repository import DatasetRepository, Registration
from include.stack.s3 import S3
from include.tasks.train_yolo import check_job_dataset
from tests.support.airflow_connections import context_of, lead_to
from tests.support.coco_datasets import build_coco
from tests.support.dataset_steps import images, upload_zip
from tests.support.image_host import ImageHost, serving_images
from tests.support.jobs import claim, recorded, started
from tests.support.ndjson_exports import export, png, write

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

On = Callable[[str], None]


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch, migrated_url: str, s3: S3, bucket: str, tmp_path: Path) -> On:
    """Switch to the named machine."""
    return lambda machine: lead_to(monkeypatch, migrated_url, s3, bucket, tmp_path / machine)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageHost]:
    with serving_images(tmp_path) as server:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(server.certificate))
        yield server


def job(dataset: str, run_id: str = "run1") -> ResolvedJob:
    names = {"job_id": "a", "dag_id": "train_yolo", "run_id": run_id, "origin_run_id": "run1"}
    spec = {"dataset": dataset, "task": "detect", "model": "yolo11n"}
    return ResolvedJob.model_validate(names | {"spec": spec})


def count_fetched(of: ResolvedJob) -> int:
    """Fetch the data as `train` does; return the number of images."""
    reference = check_job_dataset(of, context_of({}))
    settings = Settings.from_environment()
    attempt = TrainingAttempt(of, reference, 1, settings, lambda: None)  # type: ignore[arg-type, return-value]
    with ExitStack() as stack:
        return len(images(attempt._fetch_dataset(open_bucket(settings), stack)))


def test_a_job_on_an_export_resumes_on_another_machine_once_the_export_is_gone(
    on: On, jobs: JobRepository, host: ImageHost, s3_client: S3Client, bucket: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    lines = export("detect", host.url)
    host.files |= {f"/{line['file']}": png(index) for index, line in enumerate(lines[1:])}
    s3_client.upload_file(str(write(tmp_path / "mine.ndjson", lines)), bucket, "mine.ndjson")
    of = job(f"s3://{bucket}/mine.ndjson")
    on("one")
    started(jobs, epochs=1)
    with pytest.raises(AirflowFailException):
        check_job_dataset(of, context_of({}))
    assert f"localhost:{host.port} (10 files)" in (recorded(jobs).error or "")
    monkeypatch.setenv("DATASET_URL_HOSTS", f"localhost:{host.port}, 127.0.0.1")
    begun = check_job_dataset(of, context_of({}))
    assert begun.parameter == of.spec.dataset
    s3_client.delete_object(Bucket=bucket, Key="mine.ndjson")
    host.files.clear()
    on("another")
    claim(jobs, run_id="run2", expected="run1")
    assert count_fetched(job(of.spec.dataset, run_id="run2")) == begun.train_images + begun.val_images == 9


def test_a_version_from_coco_annotations_outlives_its_upload(
    on: On, jobs: JobRepository, s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    on("one")
    source = upload_zip(s3_client, bucket, build_coco(tmp_path / "data"))
    settings = Settings.from_environment()
    found = inspect_source(source, "detect", settings, open_bucket(settings))
    with open_training_db() as connection:
        version, created = DatasetRepository(connection).register(Registration("parts"), found.reference)
    assert (created, version.origin, version.source) == (True, source, found.reference.source)
    assert [count.name for count in found.reference.class_table or ()] == ["class 1", "class 2", "class 3"]
    s3_client.delete_object(Bucket=bucket, Key="data.zip")
    on("another")
    settings = Settings.from_environment()
    checked = check_parameter("parts@1", "detect", settings, open_bucket(settings), CheckRules())
    assert (checked.reference.parameter, checked.reference.fingerprint) == ("parts@1", version.fingerprint)


def test_a_url_in_dataset_url_hosts_is_refused(on: On, monkeypatch: pytest.MonkeyPatch) -> None:
    on("one")
    monkeypatch.setenv("DATASET_URL_HOSTS", "https://images.example.com")
    with pytest.raises(
        SettingRefused, match=r"DATASET_URL_HOSTS contains 'https://images.example.com'; give host names"
    ):
        Settings.from_environment()

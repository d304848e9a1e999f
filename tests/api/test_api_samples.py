"""Samples of a version and the classes of a job over REST."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from include.datasets.drawing.draw import INDEX
from include.datasets.drawing.store import SampleStore
from include.datasets.reference import ClassCount
from include.registry.repository import DatasetRepository
from include.s3.bucket import Bucket
from tests.support.jobs import claim
from tests.support.registered_datasets import register

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.jobs.repository import JobRepository

JPEG = b"\xff\xd8 a picture \xff\xd9"


def test_samples_of_a_version_are_listed_and_served(
    api_url: str, datasets: DatasetRepository, s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    version = register(datasets, "parts", "a")
    samples = f"{api_url}/datasets/parts/versions/1/samples"
    assert requests.get(samples, timeout=60).json() == {"samples": []}

    drawn = [{"name": "0.jpg", "split": "train", "image": "a/\u202e1.png"}]
    (tmp_path / INDEX).write_text(json.dumps(drawn))
    (tmp_path / "0.jpg").write_bytes(JPEG)
    SampleStore(Bucket(s3_client, bucket)).store(version.fingerprint, version.task, tmp_path)
    (sample,) = requests.get(samples, timeout=60).json()["samples"]
    assert (sample["split"], sample["image"]) == ("train", "a/\\u202e1.png")
    assert sample["href"].endswith("/training/api/v1/datasets/parts/versions/1/samples/0.jpg")
    picture = requests.get(f"{samples}/0.jpg", timeout=60)
    assert (picture.content, picture.headers["content-type"]) == (JPEG, "image/jpeg")
    known = {"If-None-Match": picture.headers["etag"]}
    assert requests.get(f"{samples}/0.jpg", headers=known, timeout=60).status_code == 304


def test_objects_other_than_samples_are_not_served(
    api_url: str, datasets: DatasetRepository, s3_client: S3Client, bucket: str
) -> None:
    version = register(datasets, "parts", "a")
    prefix = f"datasets/samples/{version.fingerprint}-{version.task}/"
    s3_client.put_object(Bucket=bucket, Key=f"{prefix}{INDEX}", Body=b"[")
    s3_client.put_object(Bucket=bucket, Key=f"{prefix}1.jpg", Body=bytes(1024**2 + 1))
    samples = f"{api_url}/datasets/parts/versions/1/samples"
    assert requests.get(samples, timeout=60).json() == {"samples": []}
    for name in ("0.jpg", "1.jpg", INDEX, "..%2F0.jpg", "0.jpg%0A"):
        assert requests.get(f"{samples}/{name}", timeout=60).status_code == 404, name
    assert requests.get(f"{api_url}/datasets/parts/versions/2/samples", timeout=60).status_code == 404


def test_the_classes_of_a_job_are_those_of_its_check(api_url: str, jobs: JobRepository) -> None:
    claim(jobs, "a")
    classes = f"{api_url}/jobs/a/class-table"
    assert requests.get(classes, timeout=60).json() == {"classes": None}
    table = [ClassCount(name="bo\x1bx", train=3, val=0, train_images=2, val_images=0)]
    jobs.record_dataset("a", "run1", "f" * 64, table)
    (count,) = requests.get(classes, timeout=60).json()["classes"]
    assert count == {"name": "bo\\x1bx", "train": 3, "val": 0, "train_images": 2, "val_images": 0}
    assert requests.get(f"{api_url}/jobs/b/class-table", timeout=60).status_code == 404

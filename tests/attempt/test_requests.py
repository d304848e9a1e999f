"""The S3 requests of an attempt: a bucket with a million objects must not make training slower."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from benchmarks.proxy import Proxy
from include.attempt.attempt import TrainingAttempt
from include.checkpoints.store import CheckpointStore
from include.datasets.caching.listing import S3Listings
from include.datasets.check import inspect_dataset
from include.datasets.layouts.boundary import DatasetRoots
from include.datasets.s3 import S3ObjectReader
from include.deployment.connections import open_bucket
from include.deployment.settings import Settings
from include.jobs.repository import JobRepository
from include.s3.bucket import Bucket
from tests.support.airflow_connections import lead_to
from tests.support.jobs import claim, resolved, small_detection
from tests.support.tiny_datasets import build
from tests.support.untrained import stored_start

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3


def test_no_bucket_is_listed_for_a_training_run(
    monkeypatch: pytest.MonkeyPatch, migrated_url: str, jobs: JobRepository, s3: S3, s3_client: S3Client,
    bucket: str, tmp_path: Path,
) -> None:  # fmt: skip
    """Neither fetching the checked data nor finding states lists the bucket, even in a repeated attempt."""
    build("detect", tmp_path / "data", train=4, val=2)
    for file in (tmp_path / "data").rglob("*.*"):
        s3_client.upload_file(str(file), bucket, f"datasets/set/{file.relative_to(tmp_path / 'data')}")
    uri = f"s3://{bucket}/datasets/set/"
    listings = S3Listings(Bucket(s3_client, bucket))
    checked = inspect_dataset(
        uri, "detect", tmp_path / "elsewhere", S3ObjectReader(s3_client), DatasetRoots(), listings
    ).reference
    spec = small_detection(uri, stored_start(s3_client, bucket, tmp_path))
    claim(jobs, spec=spec.model_dump(mode="json", exclude={"job_id"}))
    settings = Settings(bucket, tmp_path / "root")
    with Proxy(s3.endpoint_url) as proxy:
        lead_to(monkeypatch, migrated_url, s3, bucket, tmp_path / "root")
        direct = os.environ[name := "AIRFLOW_CONN_TRAINING_S3"]
        monkeypatch.setenv(name, direct.replace(s3.endpoint_url, proxy.endpoint_url))
        for _ in range(2):
            TrainingAttempt(
                resolved(spec),
                checked,
                1,
                settings,
                lambda: CheckpointStore(open_bucket(settings), run_id="run1"),
            ).run()
        assert proxy.requests["PUT"] > 3
        assert proxy.requests["GET"] > 6
        assert "LIST" not in proxy.requests
        list(open_bucket(settings).list_objects("datasets/"))
        assert proxy.requests["LIST"] == 1  # proves that the proxy counts LIST requests

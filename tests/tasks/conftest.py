"""Data and connections for the tests of tasks."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.airflow_connections import lead_to
from tests.support.dataset_steps import upload_files
from tests.support.tiny_datasets import build

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3


@pytest.fixture
def machine(
    monkeypatch: pytest.MonkeyPatch,
    migrated_url: str,
    connection: psycopg.Connection[Any],
    s3: S3,
    bucket: str,
    tmp_path: Path,
) -> Path:
    """Run tasks as on one machine; return a folder that has a dataset in `data`."""
    lead_to(monkeypatch, migrated_url, s3, bucket, tmp_path / "machine")
    build("detect", tmp_path / "data", train=3, val=2)
    return tmp_path


@pytest.fixture
def source(machine: Path, s3_client: S3Client, bucket: str) -> str:
    """Return the URI of the same data in S3."""
    upload_files(s3_client, bucket, machine / "data", "set/")
    return f"s3://{bucket}/set/"

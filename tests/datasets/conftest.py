"""Fixtures shared by the dataset tests."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.dataset_fetcher import CountingReader

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def reader(s3_client: S3Client) -> CountingReader:
    """Return a reader for the session's S3 server that counts its requests."""
    return CountingReader(s3_client)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """Return the path of the dataset cache of a test; the folder does not exist yet."""
    return tmp_path / "cache"

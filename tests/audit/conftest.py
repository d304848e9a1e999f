from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.auditing import World

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def world(connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str, tmp_path: Path) -> World:
    return World(connection, s3_client, bucket, tmp_path / "training")

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import pytest

from include.models.version import ModelVersion
from include.s3.client import build_client_config
from tests.support.dataset_steps import arguments
from tests.support.model_versions import version_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3


@pytest.fixture
def production(bucket: str) -> str:
    """Return the URI of the production file of model digits."""
    return f"s3://{bucket}/models/digits/production/best.pt"


@pytest.fixture
def client(s3: S3) -> S3Client:
    """Return a client with our settings for one test, because some tests inspect or change its requests."""
    return boto3.client("s3", **arguments(s3), config=build_client_config())


@pytest.fixture
def versions(connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str) -> list[ModelVersion]:
    """Three versions of model digits."""
    return [version_of(connection, s3_client, bucket, f"weights {number}".encode()) for number in (1, 2, 3)]

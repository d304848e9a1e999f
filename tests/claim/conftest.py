"""Claims of jobs, in the schema that the tests of a file share and a fresh bucket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.support.claims import Claims

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


@pytest.fixture
def resolving(connection: psycopg.Connection[Any], s3_client: S3Client, bucket: str) -> Claims:
    """Return a function that turns the parameters of a run into its job."""
    return Claims(connection, s3_client, bucket)

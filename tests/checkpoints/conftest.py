"""Clients, stores and files for the checkpoint tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.store import CheckpointStore
from include.s3.bucket import Bucket
from include.s3.client import build_client_config
from tests.support.dataset_steps import arguments

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3

VERSION = "8.4.190"
SIZE = 6 * 1024**2
"""Size in bytes of a file that is sent in one part or in two, depending on the transfer limits."""

Connect = Callable[..., "S3Client"]
Make = Callable[..., Checkpoint]


@pytest.fixture(scope="module")
def client(s3: S3) -> S3Client:
    """Return a client of the session's S3 server with our settings."""
    return boto3.client("s3", **arguments(s3), config=build_client_config())


@pytest.fixture
def store(client: S3Client, bucket: str) -> CheckpointStore:
    """Return the store of a fresh bucket."""
    return CheckpointStore(Bucket(client, bucket))


@pytest.fixture
def connect(s3: S3) -> Connect:
    """Return a function that opens a client with our settings, but with only two attempts per request."""

    def open_client(endpoint_url: str = s3.endpoint_url, **changes: Any) -> S3Client:
        two_attempts = build_client_config().merge(
            Config(retries={"mode": "standard", "total_max_attempts": 2})
        )
        settings: dict[str, Any] = arguments(s3) | {"endpoint_url": endpoint_url, "config": two_attempts}
        client: S3Client = boto3.client("s3", **(settings | changes))
        return client

    return open_client


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Return a function that makes a local checkpoint; its bytes depend on the epoch and the mark."""
    return lambda epoch, mark="", size=100_000: checkpoint_file(tmp_path, epoch, size, mark)


def checkpoint_file(folder: Path, epoch: int, size: int = SIZE, mark: str = "") -> Checkpoint:
    """Write a file whose bytes depend on the epoch and the mark; return its description."""
    path = folder / f"epoch-{epoch}{mark}.pt"
    path.write_bytes(Random(f"{epoch}{mark}").randbytes(size))
    return Checkpoint.of_file(path, epoch)

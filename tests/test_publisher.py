"""Snapshots become durable in the background, the newest one wins, and nothing of it stops a training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.errors import FencedOut
from include.checkpoints.publisher import BackgroundPublisher
from include.checkpoints.store import CheckpointStore
from include.stack import ports

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def _snapshot(folder: Path, epoch: int) -> Path:
    path = folder / f"last-{epoch}.pt"
    path.write_bytes(b"state of epoch %d" % epoch)
    return path


def test_the_newest_snapshot_is_durable_and_no_copy_is_left(
    s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    store = CheckpointStore(s3_client, bucket)
    with BackgroundPublisher(store, "job", "8.4") as publisher:
        for epoch in range(5):
            publisher.publish(_snapshot(tmp_path, epoch), epoch)
    stored = store.head("job", "last")
    assert stored is not None
    assert stored.checkpoint is not None
    assert stored.checkpoint.epoch == 4
    assert (
        s3_client.get_object(Bucket=bucket, Key="checkpoints/job/last.pt")["Body"].read()
        == b"state of epoch 4"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_snapshot_outlives_a_training_that_fails(s3_client: S3Client, bucket: str, tmp_path: Path) -> None:
    store = CheckpointStore(s3_client, bucket)

    def train() -> None:
        with BackgroundPublisher(store, "job", "8.4") as publisher:
            publisher.publish(_snapshot(tmp_path, 2), 2)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert (
        s3_client.get_object(Bucket=bucket, Key="checkpoints/job/last.pt")["Body"].read()
        == b"state of epoch 2"
    )


def test_a_server_that_is_gone_stops_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nobody = boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{ports.choose(set())}",
        aws_access_key_id="key",
        aws_secret_access_key="secret",
        region_name="us-east-1",
        config=Config(retries={"total_max_attempts": 1}),
    )
    with BackgroundPublisher(CheckpointStore(nobody, "bucket"), "job", "8.4") as publisher:
        publisher.publish(_snapshot(tmp_path, 0), 0)
        publisher.publish(_snapshot(tmp_path, 1), 1)
    assert "Epoch 2 is not durable" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_an_attempt_that_was_overtaken_stops_and_overwrites_nothing(
    s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    old = CheckpointStore(s3_client, bucket)
    old.upload(Checkpoint.of_file(_snapshot(tmp_path, 0), 0), "job", "last", "8.4")
    CheckpointStore(s3_client, bucket).upload(
        Checkpoint.of_file(_snapshot(tmp_path, 7), 7), "job", "last", "8.4"
    )
    publisher = BackgroundPublisher(old, "job", "8.4")
    publisher.publish(_snapshot(tmp_path, 1), 1)
    publisher.close()
    with pytest.raises(FencedOut):
        publisher.publish(_snapshot(tmp_path, 2), 2)
    assert (
        s3_client.get_object(Bucket=bucket, Key="checkpoints/job/last.pt")["Body"].read()
        == b"state of epoch 7"
    )

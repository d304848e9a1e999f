"""Bytes that are wrong on their way from S3, and not in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.client import client_config
from include.checkpoints.store import CheckpointStore
from tests.faults.hold import Hold
from tests.faults.s3_faults import wrong
from tests.faults.s3_proxy import Answer, Request, S3Proxy, spoiling

if TYPE_CHECKING:
    from include.stack.s3 import S3


def test_bytes_that_are_wrong_on_their_way_are_read_again(
    s3: S3, bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(bytes(range(256)) * 400)
    CheckpointStore(s3.client(), bucket).upload(Checkpoint.of_file(path, 0), "job", "last", "8.4")
    reads = 0

    def wrong_once(request: Request) -> Answer | None:
        nonlocal reads
        reads += request.method == "GET"
        return spoiling(wrong)(request) if reads == 1 else request.forward()

    with S3Proxy(s3.endpoint_url, Hold()) as proxy, proxy.behaving(wrong_once):
        client = boto3.client(
            "s3",
            endpoint_url=proxy.endpoint_url,
            aws_access_key_id=s3.access_key,
            aws_secret_access_key=s3.secret_key,
            region_name=s3.region,
            config=client_config(),
        )
        got = CheckpointStore(client, bucket).download("job", "last", tmp_path / "got.pt")

    assert Path(got.path).read_bytes() == path.read_bytes()
    assert "is not what was stored; reading it again" in caplog.text

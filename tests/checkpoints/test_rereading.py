"""Bytes that are corrupted on the way from S3 are read again; the stored bytes are intact."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.errors import UnsafeCheckpoint
from include.checkpoints.store import CheckpointStore
from include.s3.bucket import Bucket
from include.s3.client import build_client_config
from include.s3.errors import StoreUnreachable
from include.s3.location import S3Location
from include.s3.reading import read_settled_object
from tests.support.cutting_proxy import CuttingProxy
from tests.support.dataset_steps import arguments
from tests.support.faults.hold import Hold
from tests.support.faults.s3_faults import flip_bit
from tests.support.faults.s3_proxy import Answer, Request, S3Proxy, corrupt
from tests.support.tls_server import serving_tls
from tests.support.untrained import best

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3

CONTENT = bytes(range(256)) * 400


@contextmanager
def wrong_first(s3: S3, times: int) -> Iterator[S3Client]:
    """Yield a client whose first `times` GET requests return wrong bytes."""
    reads = 0

    def behave(request: Request) -> Answer | None:
        nonlocal reads
        reads += request.method == "GET"
        return corrupt(flip_bit)(request) if reads <= times else request.forward()

    with S3Proxy(s3.endpoint_url, Hold()) as proxy, proxy.behave_as(behave):
        yield boto3.client(
            "s3", **arguments(s3, endpoint_url=proxy.endpoint_url), config=build_client_config()
        )


def test_a_state_that_arrives_corrupted_is_read_again(
    s3: S3, bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(CONTENT)
    CheckpointStore(Bucket(s3.client(), bucket)).upload(Checkpoint.of_file(path, 0), "job", "last", "8.4")
    with wrong_first(s3, 1) as client:
        got = CheckpointStore(Bucket(client, bucket)).download("job", "last", tmp_path / "got.pt")
    assert Path(got.path).read_bytes() == CONTENT
    assert "differ from the stored ones; downloading the object again" in caplog.text


@contextmanager
def damaging_tls(s3: S3, folder: Path, received: int) -> Iterator[S3Client]:
    """Yield a client that speaks TLS, one of whose packets from the server is damaged.

    It is damaged once a connection has received that many bytes.
    """
    with (
        serving_tls(s3.endpoint_url, folder) as (url, certificate),
        CuttingProxy(url, received=received, cuts=1, then="flip") as proxy,
    ):
        endpoint = proxy.endpoint_url.replace("http://127.0.0.1", "https://localhost")
        yield boto3.client(
            "s3",
            **arguments(s3, endpoint_url=endpoint),
            verify=str(certificate),
            config=build_client_config(),
        )
        assert proxy.cuts == 1


def test_a_download_continues_after_a_damaged_packet_of_an_encrypted_connection(
    s3: S3, bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "last.pt"
    path.write_bytes(CONTENT * 40)
    CheckpointStore(Bucket(s3.client(), bucket)).upload(Checkpoint.of_file(path, 0), "job", "last", "8.4")
    with damaging_tls(s3, tmp_path, received=2_500_000) as client:
        got = CheckpointStore(Bucket(client, bucket)).download("job", "last", tmp_path / "got.pt")
    assert Path(got.path).read_bytes() == path.read_bytes()
    assert "was interrupted after 2097152 of 4096000 bytes" in caplog.text


def test_an_encrypted_connection_that_breaks_while_an_object_is_read_is_a_temporary_error(
    s3: S3, s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    s3_client.put_object(Bucket=bucket, Key="model.pt", Body=CONTENT)
    with damaging_tls(s3, tmp_path, received=50_000) as client:
        with pytest.raises(StoreUnreachable, match=r"the connection was interrupted .*BAD_RECORD_MAC"):
            Bucket(client, bucket).read_with_etag("model.pt", len(CONTENT))
        assert read_settled_object(client, S3Location(bucket, "model.pt")).size == len(CONTENT)


@pytest.mark.usefixtures("reread_at_once")
@pytest.mark.parametrize("times", [0, 1, 2])
def test_the_hash_of_an_object_is_that_of_its_stored_bytes(
    times: int, s3: S3, s3_client: S3Client, bucket: str
) -> None:
    s3_client.put_object(Bucket=bucket, Key="model.pt", Body=CONTENT)
    with wrong_first(s3, times) as client:
        found = read_settled_object(client, S3Location(bucket, "model.pt"))
    assert (found.sha256, found.size) == (hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


def test_a_model_is_refused_for_its_stored_bytes_and_not_for_corrupted_ones(
    s3: S3, s3_client: S3Client, bucket: str, tmp_path: Path
) -> None:
    s3_client.upload_file(str(best("classify", tmp_path / "model.pt")), bucket, "model.pt")
    s3_client.put_object(Bucket=bucket, Key="text.pt", Body=CONTENT)
    with wrong_first(s3, 1) as client:
        assert (
            CheckpointStore(Bucket(client, bucket)).require_checkpoint(f"s3://{bucket}/model.pt").task
            == "classify"
        )
    with pytest.raises(UnsafeCheckpoint, match="is not a checkpoint"):
        CheckpointStore(Bucket(s3_client, bucket)).require_checkpoint(f"s3://{bucket}/text.pt")

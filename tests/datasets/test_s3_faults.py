"""If S3, the network or the process fails, the error is explained and no incomplete dataset is left."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from include.datasets.check import inspect_dataset
from include.datasets.errors import DatasetError
from include.datasets.reference import DatasetReference
from include.datasets.s3 import S3ObjectReader
from include.s3.errors import BucketMissing, StoreAccessDenied, StoreUnavailable
from tests.support.cutting_proxy import CuttingProxy
from tests.support.dataset_fetcher import CountingReader
from tests.support.dataset_steps import arguments, images, materialize, upload_files, upload_zip
from tests.support.tiny_datasets import build
from tests.support.waiting import until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3

ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=5, read_timeout=10)


def test_a_missing_object_or_prefix_is_named(
    bucket: str, s3_client: S3Client, cache: Path, reader: CountingReader
) -> None:
    s3_client.put_object(Bucket=bucket, Key="set/readme", Body=b"")
    for source in (
        f"s3://{bucket}/nothing.zip",
        f"s3://{bucket}/nothing/",
        f"s3://{bucket}/set/data.yaml",
    ):
        with pytest.raises(DatasetError, match=r"check the (bucket and the (key|prefix)|key)") as refused:
            inspect_dataset(source, "detect", cache, reader)
        assert source in str(refused.value)


def test_a_bucket_that_is_missing_is_named(cache: Path, reader: CountingReader) -> None:
    for source in ("s3://no-such-bucket-here/set/", "s3://no-such-bucket-here/set.zip"):
        with pytest.raises(BucketMissing, match="check the bucket's name") as refused:
            inspect_dataset(source, "detect", cache, reader)
        assert source in str(refused.value)


def test_rejected_access_keys_are_named(s3: S3, bucket: str, cache: Path) -> None:
    for changes in ({"aws_secret_access_key": "wrong"}, {"aws_access_key_id": "unknown"}):
        reader = S3ObjectReader(boto3.client("s3", **arguments(s3, **changes)))
        for source in (f"s3://{bucket}/a.zip", f"s3://{bucket}/a/"):
            with pytest.raises(StoreAccessDenied, match="does not accept the keys of connection training_s3"):
                inspect_dataset(source, "detect", cache, reader)


def test_a_server_that_does_not_respond_causes_a_retryable_error(s3: S3, cache: Path) -> None:
    with socket.socket() as unused:  # bound, so that nobody else gets the port, but not listening
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
        reader = S3ObjectReader(boto3.client("s3", **arguments(s3, endpoint_url=endpoint), config=ONCE))
        with pytest.raises(StoreUnavailable, match=f"{endpoint} does not respond, .*/b/a.zip") as failed:
            inspect_dataset("s3://b/a.zip", "detect", cache, reader)
    assert not isinstance(failed.value, DatasetError)


def test_a_broken_connection_is_resumed(
    s3: S3, folder: Path, cache: Path, bucket: str, s3_client: S3Client
) -> None:
    build("detect", folder)
    source = upload_zip(s3_client, bucket, folder)
    with CuttingProxy(s3.endpoint_url, received=30_000, cuts=2) as proxy:
        reader = S3ObjectReader(
            boto3.client("s3", **arguments(s3, endpoint_url=proxy.endpoint_url), config=ONCE)
        )
        assert inspect_dataset(source, "detect", cache, reader).reference.train_images == 8
        assert proxy.cuts == 2


def test_a_connection_that_always_breaks_leaves_nothing_behind(
    s3: S3, folder: Path, cache: Path, bucket: str, s3_client: S3Client
) -> None:
    build("detect", folder)
    source = upload_zip(s3_client, bucket, folder)
    with CuttingProxy(s3.endpoint_url, received=30_000) as proxy:
        reader = S3ObjectReader(
            boto3.client("s3", **arguments(s3, endpoint_url=proxy.endpoint_url), config=ONCE)
        )
        with pytest.raises(StoreUnavailable, match=r"data\.zip"):
            inspect_dataset(source, "detect", cache, reader)
    assert not list(cache.rglob("content*"))


def start_fetcher(
    s3: S3, reference: DatasetReference, cache: Path, *, hang: bool, hang_after: int = 0
) -> subprocess.Popen[str]:
    job = {
        "reference": reference.model_dump(mode="json"),
        "cache": str(cache),
        "client": arguments(s3),
        "hang": hang,
        "hang_after": hang_after,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.dataset_fetcher", json.dumps(job)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_two_simultaneous_processes_fetch_the_content_once(
    s3: S3,
    folder: Path,
    cache: Path,
    bucket: str,
    s3_client: S3Client,
    reader: CountingReader,
    tmp_path: Path,
) -> None:
    build("detect", folder, train=28)
    upload_files(s3_client, bucket, folder, "set/")
    reference = inspect_dataset(f"s3://{bucket}/set/", "detect", tmp_path / "checked", reader).reference
    processes = [start_fetcher(s3, reference, cache, hang=False) for _ in range(2)]
    reads = [int(process.communicate(timeout=60)[0]) for process in processes]
    assert sorted(reads) == [0, reader.reads]
    assert len(images(materialize(reference, cache, None))) == 32


def test_a_process_that_is_killed_while_fetching_leaves_no_usable_content(
    s3: S3,
    folder: Path,
    cache: Path,
    bucket: str,
    s3_client: S3Client,
    reader: CountingReader,
    tmp_path: Path,
) -> None:
    build("detect", folder)
    source = upload_zip(s3_client, bucket, folder)
    reference = inspect_dataset(source, "detect", tmp_path / "checked", reader).reference
    home = cache / reference.fingerprint
    process = start_fetcher(s3, reference, cache, hang=True)
    until((home / "content.zip").exists, seconds=60, pause=0.05)
    process.kill()
    process.communicate()
    assert (home / "content.partial").is_dir()
    assert not (home / "content").exists()
    assert len(images(materialize(reference, cache, reader))) == 12
    left = {path.name for path in home.iterdir()}
    view = {"view-detect", "view-detect.files", "view-detect.lock"}
    assert left == view | {"content", "listing.jsonl.gz", "lock"}

"""obstore reads the same bytes as boto3; objects that obstore cannot read are read with boto3."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import boto3
import pytest
from botocore.config import Config

from include.datasets.errors import DatasetChanged
from include.datasets.s3 import S3ObjectReader
from include.datasets.storage import StoredObject
from include.s3.small_reads import LARGEST, SmallReads
from tests.support.cutting_proxy import CuttingProxy
from tests.support.dataset_steps import arguments

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3

KEYS = ("set/a.jpg", "set/a b+c%2F&?#~.jpg", "set/\u00e4\U0001f600.jpg", "set/[x]'\"\\|.jpg")
KEYS_OF_BOTO3 = ("set//a.jpg", "set/a\tb.jpg")
"""An empty segment and a control character, which obstore refuses."""


def put(client: S3Client, bucket: str, key: str, content: bytes) -> StoredObject:
    etag = client.put_object(Bucket=bucket, Key=key, Body=content)["ETag"]
    return StoredObject(bucket, key, len(content), etag.strip('"'))


def read(small: SmallReads, stored: StoredObject, start: int, stop: int) -> bytes | None:
    return small.read(stored.bucket, stored.key, f'"{stored.etag}"', start, stop)


def test_a_range_of_an_object_is_read_by_either_client(s3_client: S3Client, bucket: str) -> None:
    small, reader = SmallReads(s3_client), S3ObjectReader(s3_client)
    for key in KEYS:
        stored = put(s3_client, bucket, key, content := f"the content of {key}".encode())
        assert read(small, stored, 0, len(content)) == content
        assert read(small, stored, 4, 11) == b"content"
    for key in KEYS_OF_BOTO3:
        stored = put(s3_client, bucket, key, content := f"the content of {key}".encode())
        assert read(small, stored, 4, 11) is None
        assert b"".join(reader.read(stored, 4, 11)) == b"content"


def test_large_ranges_are_left_to_boto3(s3_client: S3Client, bucket: str) -> None:
    stored = put(s3_client, bucket, "large", bytes(LARGEST + 1))
    assert read(SmallReads(s3_client), stored, 0, LARGEST + 1) is None
    assert read(SmallReads(s3_client), stored, 1, LARGEST + 1) == bytes(LARGEST)


def test_an_object_that_differs_from_the_listed_one_is_never_read(s3_client: S3Client, bucket: str) -> None:
    small, reader = SmallReads(s3_client), S3ObjectReader(s3_client)
    stored = put(s3_client, bucket, "set/a.jpg", b"1234")
    for change, what in ((b"abcd", "replaced"), (b"a", "replaced"), (None, "deleted")):
        if change is None:
            s3_client.delete_object(Bucket=bucket, Key=stored.key)
        else:
            put(s3_client, bucket, stored.key, change)
        assert read(small, stored, 0, 4) is None
        with pytest.raises(DatasetChanged, match=what):
            list(reader.read(stored, 0, 4))


def test_after_three_failures_in_a_row_boto3_reads_everything(
    s3: S3, s3_client: S3Client, bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without this, each object of a server whose certificate only boto3 trusts would be requested twice."""
    caplog.set_level("INFO")
    stored = put(s3_client, bucket, "set/a.jpg", b"1234")
    with CuttingProxy(s3.endpoint_url, throttled=100) as proxy:
        client = boto3.client("s3", **arguments(s3, endpoint_url=proxy.endpoint_url))
        small = SmallReads(client)
        for _ in range(2):
            assert read(small, stored, 0, 4) is None
        assert not caplog.records
        for _ in range(3):
            assert read(small, stored, 0, 4) is None
    assert [record.message[:56] for record in caplog.records] == [
        "boto3 now reads small objects, because obstore could not"
    ]
    assert s3.secret_key not in caplog.text


def test_a_success_resets_the_count_of_failures(s3: S3, s3_client: S3Client, bucket: str) -> None:
    stored = put(s3_client, bucket, "set/a.jpg", b"1234")
    with CuttingProxy(s3.endpoint_url, throttled=2) as proxy:
        small = SmallReads(boto3.client("s3", **arguments(s3, endpoint_url=proxy.endpoint_url)))
        assert [read(small, stored, 0, 4) for _ in range(4)] == [None, None, b"1234", b"1234"]


@pytest.mark.parametrize(
    "config", [Config(proxies={"http": "http://127.0.0.1:1"}), Config(signature_version="s3")]
)
def test_settings_that_obstore_lacks_are_left_to_boto3(
    s3: S3, s3_client: S3Client, bucket: str, config: Config
) -> None:
    stored = put(s3_client, bucket, "set/a.jpg", b"1234")
    assert read(SmallReads(boto3.client("s3", **arguments(s3), config=config)), stored, 0, 4) is None


def test_a_forked_process_reads_with_boto3(s3_client: S3Client, bucket: str) -> None:
    """A forked process lacks obstore's threads, and would wait forever for their responses."""
    stored = put(s3_client, bucket, "set/a.jpg", b"1234")
    small = SmallReads(s3_client)
    assert read(small, stored, 0, 4) == b"1234"
    child = os.fork()
    if not child:
        signal.alarm(20)
        again = [read(each, stored, 0, 4) for each in (small, SmallReads(s3_client))]
        os._exit(0 if again == [None, None] else 1)
    assert os.waitpid(child, 0)[1] == 0

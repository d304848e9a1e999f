"""The record of an upload is written even if the response that confirms it is lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import boto3
import pytest

from include.datasets.uploads.errors import UploadUnknown
from include.datasets.uploads.plan import UploadFile, plan_upload
from include.datasets.uploads.store import UploadStore
from include.s3.bucket import Bucket
from include.s3.client import build_client_config
from tests.support.dataset_steps import arguments
from tests.support.faults.hold import Hold
from tests.support.faults.s3_proxy import Answer, Request, S3Proxy

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.datasets.uploads.plan import Upload
    from include.stack.s3 import S3


@pytest.fixture
def upload() -> Upload:
    return plan_upload([UploadFile(path="data.zip", size=4)], "ada")


@contextmanager
def losing_a_response(s3: S3, bucket: str) -> Iterator[UploadStore]:
    """Yield a store whose first write is executed, but not answered."""
    lost = 0

    def behave(request: Request) -> Answer | None:
        nonlocal lost
        answer = request.forward()
        lost += request.method == "PUT"
        return None if request.method == "PUT" and lost == 1 else answer

    with S3Proxy(s3.endpoint_url, Hold()) as proxy, proxy.behave_as(behave):
        client = boto3.client(
            "s3", **arguments(s3, endpoint_url=proxy.endpoint_url), config=build_client_config()
        )
        yield UploadStore(Bucket(client, bucket))
        assert lost > 1, "boto3 has repeated the write"


def test_an_upload_begins_although_the_response_is_lost(
    s3: S3, s3_client: S3Client, bucket: str, upload: Upload
) -> None:
    with losing_a_response(s3, bucket) as store:
        assert store.begin(upload) == upload
    assert UploadStore(Bucket(s3_client, bucket)).find(upload.upload_id) == upload


def test_an_upload_is_removed_although_the_response_is_lost(
    s3: S3, s3_client: S3Client, bucket: str, upload: Upload
) -> None:
    UploadStore(Bucket(s3_client, bucket)).begin(upload)
    s3_client.put_object(Bucket=bucket, Key=f"{upload.prefix}data.zip", Body=b"1234")
    with losing_a_response(s3, bucket) as store:
        assert store.remove(upload) == (1, 4)
    assert s3_client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_record_that_another_request_has_written_is_not_mistaken_for_our_own(
    s3_client: S3Client, bucket: str, upload: Upload
) -> None:
    store = UploadStore(Bucket(s3_client, bucket))
    store.begin(upload)
    another = upload.model_copy(update={"created_at": datetime.now(UTC)})
    with pytest.raises(UploadUnknown, match="just removed or completed by another request"):
        store.begin(another)

"""Reads data sets from S3 with a boto3 client that the caller has configured."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetChanged, DatasetError, StorageUnavailable
from include.datasets.storage import StoredObject

if TYPE_CHECKING:
    from collections.abc import Iterator

    from botocore.exceptions import ClientError
    from mypy_boto3_s3 import S3Client

_BLOCK = 1024 * 1024
_NOT_FOUND = {"NoSuchKey", "404"}
_NOT_ALLOWED = {
    "AccessDenied",
    "AllAccessDisabled",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "401",
    "403",
}
_CHANGED = {"PreconditionFailed", "412", "InvalidRange", "416"}


class S3ObjectReader:
    """An ObjectReader on one S3 endpoint. Safe to use from several threads, as the client is."""

    def __init__(self, client: S3Client) -> None:
        self._client = client

    def stat(self, bucket: str, key: str) -> StoredObject:
        """Look at one object."""
        with self._explained(f"s3://{bucket}/{key}"):
            head = self._client.head_object(Bucket=bucket, Key=key)
        return StoredObject(bucket, key, head["ContentLength"], head["ETag"].strip('"'))

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose keys begin with `prefix`, in the order of their keys."""
        with self._explained(f"s3://{bucket}/{prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for page in pages:
                for item in page.get("Contents", []):
                    yield StoredObject(bucket, item["Key"], item["Size"], item["ETag"].strip('"'))

    def read(self, stored: StoredObject, start: int, stop: int) -> Iterator[bytes]:
        """Read bytes `start` to `stop` - 1; raises DatasetChanged if it is no longer the object listed."""
        with self._explained(stored.uri):
            answer = self._client.get_object(
                Bucket=stored.bucket,
                Key=stored.key,
                Range=f"bytes={start}-{stop - 1}",
                IfMatch=f'"{stored.etag}"',
            )
            yield from answer["Body"].iter_chunks(_BLOCK)

    @contextmanager
    def _explained(self, uri: str) -> Iterator[None]:
        from botocore import exceptions as boto

        endpoint = self._client.meta.endpoint_url
        try:
            yield
        except boto.ClientError as error:
            raise _explanation(error, uri, endpoint) from error
        except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
            raise DatasetError(
                f"There are no credentials to read {uri}; put the access key and the secret key into "
                "connection "
                "training_s3"
            ) from error
        except boto.ParamValidationError as error:
            raise DatasetError(f"{uri} is not a valid S3 address: {error}") from error
        except boto.BotoCoreError as error:
            raise StorageUnavailable(
                f"S3 at {endpoint} does not answer for {uri} ({error}); check that it runs, and the "
                "endpoint_url of "
                "connection training_s3"
            ) from error


def _explanation(error: ClientError, uri: str, endpoint: str) -> DatasetError | StorageUnavailable:
    detail = error.response.get("Error", {})
    code = detail.get("Code", "")
    if code == "NoSuchBucket":
        return DatasetError(
            f"{uri} does not exist: there is no such bucket at {endpoint}; check the bucket's name"
        )
    if code in _NOT_FOUND:
        return DatasetError(
            f"{uri} does not exist at {endpoint}; check the bucket and the key, or upload the data there"
        )
    if code in _NOT_ALLOWED:
        return DatasetError(
            f"S3 at {endpoint} does not allow {error.operation_name} on {uri} ({code}); allow the keys of "
            "connection "
            "training_s3 s3:GetObject on it and s3:ListBucket on the bucket, or correct the keys"
        )
    if code in _CHANGED:
        return DatasetChanged(
            f"{uri} was replaced while it was being fetched; run the job again when it is complete"
        )
    # What is left are the server's own troubles (500, SlowDown, a skewed clock): the data may be good.
    return StorageUnavailable(
        f"S3 at {endpoint} refused {error.operation_name} on {uri}: {code} "
        f"{detail.get('Message', '')}".rstrip()
    )

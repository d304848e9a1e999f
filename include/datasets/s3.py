"""Reads datasets from S3 with a boto3 client that the caller has configured."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetChanged, DatasetError, StorageMisconfigured, StorageUnavailable
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
        with translate_s3_errors(self._client, f"s3://{bucket}/{key}"):
            head = self._client.head_object(Bucket=bucket, Key=key)
        return StoredObject(bucket, key, head["ContentLength"], head["ETag"].strip('"'))

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose keys begin with `prefix`, in the order of their keys."""
        with translate_s3_errors(self._client, f"s3://{bucket}/{prefix}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            for page in pages:
                for item in page.get("Contents", []):
                    yield StoredObject(bucket, item["Key"], item["Size"], item["ETag"].strip('"'))

    def read(self, stored: StoredObject, start: int, stop: int) -> Iterator[bytes]:
        """Read bytes `start` to `stop` - 1; raises DatasetChanged if it is no longer the object listed."""
        from botocore.exceptions import ClientError

        with translate_s3_errors(self._client, stored.uri):
            try:
                answer = self._client.get_object(
                    Bucket=stored.bucket,
                    Key=stored.key,
                    Range=f"bytes={start}-{stop - 1}",
                    IfMatch=f'"{stored.etag}"',
                )
            except ClientError as error:
                if is_missing_object(error):
                    raise DatasetChanged(_changed(stored.uri, "deleted")) from error
                raise
            yield from answer["Body"].iter_chunks(_BLOCK)


def is_missing_object(error: ClientError) -> bool:
    """Whether S3 says that there is no such object."""
    return error.response.get("Error", {}).get("Code", "") in _NOT_FOUND


@contextmanager
def translate_s3_errors(client: S3Client, uri: str) -> Iterator[None]:
    """Turn what boto3 raises about `uri` into a DatasetError or StorageUnavailable that says what to do."""
    from botocore import exceptions as boto

    endpoint = client.meta.endpoint_url
    try:
        yield
    except boto.ClientError as error:
        raise _explanation(error, uri, endpoint) from error
    except (boto.NoCredentialsError, boto.PartialCredentialsError) as error:
        raise StorageMisconfigured(
            f"There are no credentials to read {uri}; put the access key and the secret key into connection "
            "training_s3"
        ) from error
    except boto.ParamValidationError as error:
        raise DatasetError(f"{uri} is not a valid S3 address: {error}") from error
    except boto.BotoCoreError as error:
        raise StorageUnavailable(
            f"S3 at {endpoint} does not answer for {uri} ({error}); check that it runs, and the "
            "endpoint_url of connection training_s3"
        ) from error


def _explanation(error: ClientError, uri: str, endpoint: str) -> DatasetError | StorageUnavailable:
    detail = error.response.get("Error", {})
    code = detail.get("Code", "")
    if code == "NoSuchBucket":
        return StorageMisconfigured(
            f"{uri} does not exist: there is no such bucket at {endpoint}; check the bucket's name"
        )
    if code in _NOT_FOUND:
        return DatasetError(
            f"{uri} does not exist at {endpoint}; check the bucket and the key, or upload the data there"
        )
    if code in _NOT_ALLOWED:
        return StorageMisconfigured(
            f"S3 at {endpoint} does not allow {error.operation_name} on {uri} ({code}); allow the keys of "
            "connection "
            "training_s3 s3:GetObject on it and s3:ListBucket on the bucket, or correct the keys"
        )
    if code in _CHANGED:
        return DatasetChanged(_changed(uri, "replaced"))
    # What is left are the server's own troubles (500, SlowDown, a skewed clock): the data may be good.
    return StorageUnavailable(
        f"S3 at {endpoint} refused {error.operation_name} on {uri}: {code} "
        f"{detail.get('Message', '')}".rstrip()
    )


def _changed(uri: str, what: str) -> str:
    return (
        f"{uri} was {what} after the dataset was listed. Restore that object, or start over with what is "
        "there now: clear check_dataset, or, where the job has a durable state, trigger it with fresh=true"
    )

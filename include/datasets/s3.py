"""Reads datasets from S3 with the caller's boto3 client, and small objects with obstore (small_reads.py)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

from include.datasets.errors import DatasetChanged, DatasetError
from include.datasets.storage import StoredObject
from include.s3.bucket import Bucket
from include.s3.errors import (
    BucketMissing,
    ConditionFailed,
    ObjectNotFound,
    RangeNotSatisfiable,
    StoreUnreachable,
)
from include.s3.listing import list_level
from include.s3.location import S3Location
from include.s3.reading import head_object, read_range
from include.s3.small_reads import SmallReads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client

    from include.datasets.storage import Page
    from include.s3.listing import ListedObject


class S3ObjectReader:
    """An ObjectReader on one S3 endpoint. Like the client, it is safe to use from several threads."""

    def __init__(self, client: S3Client) -> None:
        self._client, self._small = client, SmallReads(client)

    def stat(self, bucket: str, key: str) -> StoredObject:
        """Return one object's size and ETag."""
        location = S3Location(bucket, key)
        with self._explain_errors(location):
            head = head_object(self._client, location)
            if head is None:
                raise ObjectNotFound(location.uri)
        return StoredObject(bucket, key, head["ContentLength"], head["ETag"].strip('"'))

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose keys start with `prefix`, ordered by key."""
        with self._explain_errors(S3Location(bucket, prefix)):
            yield from map(_to_stored_object, Bucket(self._client, bucket).list_objects(prefix))

    def list_level(self, bucket: str, prefix: str, after: str = "") -> Iterator[Page]:
        """List the objects and prefixes directly under `prefix` whose keys sort after `after`."""
        with self._explain_errors(S3Location(bucket, prefix)):
            for page in list_level(self._client, S3Location(bucket, prefix), after):
                yield [found if isinstance(found, str) else _to_stored_object(found) for found in page]

    def read(self, stored: StoredObject, start: int, stop: int) -> Iterator[bytes]:
        """Read bytes `start` to `stop` - 1. Raises DatasetChanged if the object was replaced or deleted."""
        small = self._small.read(stored.bucket, stored.key, f'"{stored.etag}"', start, stop)
        if small is not None:
            yield small
            return
        location = S3Location(stored.bucket, stored.key)
        with self._explain_errors(location):
            try:
                yield from read_range(self._client, location, f'"{stored.etag}"', start, stop)
            except ObjectNotFound as error:
                raise _describe_change(stored.uri, "deleted") from error
            except (ConditionFailed, RangeNotSatisfiable) as error:
                raise _describe_change(stored.uri, "replaced") from error

    @contextmanager
    def _explain_errors(self, location: S3Location) -> Iterator[None]:
        """Turn an error into one that names the missing or unreadable data, and the remedy."""
        endpoint = self._client.meta.endpoint_url
        try:
            yield
        except StoreUnreachable as error:
            raise StoreUnreachable(f"{location.uri} cannot be read: {error}") from error
        except BucketMissing as error:
            raise BucketMissing(
                f"{location.uri} does not exist: there is no such bucket at {endpoint}; check the bucket's "
                "name"
            ) from error
        except ObjectNotFound as error:
            raise DatasetError(
                f"{location.uri} does not exist at {endpoint}; check the bucket and the key, or upload the "
                "data there"
            ) from error


def _to_stored_object(found: ListedObject) -> StoredObject:
    return StoredObject(found.location.bucket, found.location.key, found.size, found.etag.strip('"'))


def _describe_change(uri: str, what: Literal["deleted", "replaced"]) -> DatasetChanged:
    change = f"{uri} was {what} after the dataset was listed"
    error = DatasetChanged(
        f"{change}. Restore that object, or start over with the current content: clear check_dataset, or, if "
        "the job has a durable state, trigger it with fresh=true"
    )
    error.change = change
    return error

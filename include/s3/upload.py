"""Uploads and copies to S3; the server verifies the bytes, and replaces only the expected object.

The server compares all bytes with a SHA-256 that was computed beforehand, even if they are sent in parts. So
a file that has changed since then, or changes while it is being sent, never becomes an object.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, TypedDict, cast

from include.s3.errors import translate_s3_errors
from include.s3.local_file import TransferLimits, open_body
from include.s3.multipart import MultipartUpload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.s3.download import FetchedObject
    from include.s3.local_file import LocalFile
    from include.s3.location import S3Location


class Condition(TypedDict, total=False):
    """Condition of a write."""

    IfMatch: str
    """The ETag that the object must have."""
    IfNoneMatch: str
    """`*`: the object must not exist."""


def build_unchanged_condition(etag: str | None) -> Condition:
    """Return the condition that the object still has this ETag or, with None, is still missing."""
    return {"IfMatch": etag} if etag else {"IfNoneMatch": "*"}


def put(
    client: S3Client, file: LocalFile, location: S3Location, metadata: Mapping[str, str], condition: Condition
) -> str:
    """Upload `file` in one request; return its ETag.

    Raises ConditionFailed, BytesRefused and other StoreErrors. After an error, the object in S3 is unchanged,
    unless S3 stored the file and only the response was lost.
    """
    with translate_s3_errors(client, location), open_body(file.path, 0, file.size) as content:
        return client.put_object(
            Bucket=location.bucket,
            Key=location.key,
            Body=cast("IO[bytes]", content),
            ContentLength=file.size,
            ChecksumSHA256=file.stored_checksum,
            Metadata=metadata,
            **condition,
        )["ETag"]


def copy(
    client: S3Client,
    location: S3Location,
    etag: str,
    size: int,
    to: S3Location,
    metadata: Mapping[str, str],
    limits: TransferLimits,
    condition: Condition,
) -> None:
    """Copy the object of `size` bytes within S3 if it has that ETag, and give the copy `metadata`.

    The metadata are set explicitly, because a multipart copy would lose them. `condition` says what the
    copy may replace. Raises ConditionFailed if the source or the target has changed; ObjectNotFound if either
    is gone; and other StoreErrors. After an error, the target is unchanged unless only the response was lost.
    """
    if size > limits.copied_at_once:
        upload = MultipartUpload(client, to, metadata)
        try:
            upload.copy(location, etag, size, limits.copied_at_once)
            upload.complete(condition)
        except BaseException:
            upload.abort()
            raise
        return
    with translate_s3_errors(client, to):
        client.copy_object(
            Bucket=to.bucket,
            Key=to.key,
            CopySource={"Bucket": location.bucket, "Key": location.key},
            CopySourceIfMatch=etag,
            MetadataDirective="REPLACE",
            Metadata=metadata,
            ChecksumAlgorithm="SHA256",
            **condition,
        )


def set_metadata(
    client: S3Client, location: S3Location, found: FetchedObject, metadata: Mapping[str, str]
) -> None:
    """Replace the metadata of an object that has been read.

    Raises ConditionFailed if the object has been replaced since it was read, and other StoreErrors.
    """
    unchanged = Condition(IfMatch=found.etag)
    copy(client, location, found.etag, found.size, location, metadata, TransferLimits(), unchanged)

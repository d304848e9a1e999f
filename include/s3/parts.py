"""Multipart uploads whose parts come from another process: a browser with signed links, or a killed process.

Every function raises StoreErrors.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from include.s3.errors import ConditionFailed, MultipartUploadEnded, translate_s3_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from include.s3.bucket import Bucket
    from include.s3.location import S3Location


class StoredPart(NamedTuple):
    """A part that is in S3."""

    etag: str
    """The ETag with its quotes, as S3 returns it."""
    size: int
    """In bytes."""


class UnfinishedUpload(NamedTuple):
    """A multipart upload that has been neither completed nor aborted."""

    location: S3Location
    """Address of the object that the upload would create."""
    upload_id: str
    """The id that S3 gave the multipart upload."""
    begun_at: datetime
    """When the upload was begun, by S3's clock."""


def begin_multipart_upload(bucket: Bucket, key: str) -> str:
    """Begin the multipart upload of an object; return the id that S3 gave the upload."""
    with translate_s3_errors(bucket.client, bucket.at(key)):
        return bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)["UploadId"]


def list_parts(bucket: Bucket, key: str, upload_id: str) -> dict[int, StoredPart]:
    """Return the parts that S3 has, by number; an empty dict if the multipart upload has ended."""
    pages = bucket.client.get_paginator("list_parts").paginate(
        Bucket=bucket.name, Key=key, UploadId=upload_id
    )
    try:
        with translate_s3_errors(bucket.client, bucket.at(key)):
            return {
                part["PartNumber"]: StoredPart(part["ETag"], part["Size"])
                for page in pages
                for part in page.get("Parts", ())
            }
    except MultipartUploadEnded:
        return {}


def assemble_parts(bucket: Bucket, key: str, upload_id: str, parts: Mapping[int, StoredPart]) -> None:
    """Assemble the object from these parts, unless it exists or the multipart upload has ended."""
    with suppress(ConditionFailed), translate_s3_errors(bucket.client, bucket.at(key)):
        bucket.client.complete_multipart_upload(
            Bucket=bucket.name,
            Key=key,
            UploadId=upload_id,
            MultipartUpload={
                "Parts": [{"PartNumber": number, "ETag": parts[number].etag} for number in sorted(parts)]
            },
            IfNoneMatch="*",
        )


def list_unfinished_uploads(bucket: Bucket, prefix: str) -> Iterator[UnfinishedUpload]:
    """Yield the unfinished multipart uploads of objects below `prefix`."""
    pages = bucket.client.get_paginator("list_multipart_uploads").paginate(Bucket=bucket.name, Prefix=prefix)
    with translate_s3_errors(bucket.client, bucket.at(prefix)):
        for page in pages:
            for upload in page.get("Uploads", ()):
                if upload["Key"].startswith(prefix):
                    yield UnfinishedUpload(bucket.at(upload["Key"]), upload["UploadId"], upload["Initiated"])

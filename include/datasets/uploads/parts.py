"""Requests to S3 about one file that is sent in parts. Every function raises StoreErrors."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from include.s3.errors import ConditionFailed, translate_s3_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.s3.bucket import Bucket


class StoredPart(NamedTuple):
    """A part that is in S3."""

    etag: str
    """In quotes, as S3 gives it."""
    size: int
    """In bytes."""


def begin(bucket: Bucket, key: str) -> str:
    """Begin the multipart upload of an object; return S3's id of the upload."""
    with translate_s3_errors(bucket.client, bucket.at(key)):
        return bucket.client.create_multipart_upload(Bucket=bucket.name, Key=key)["UploadId"]


def list_stored(bucket: Bucket, key: str, multipart_id: str) -> dict[int, StoredPart]:
    """Return the parts that S3 has, by number; none if the multipart upload has ended."""
    pages = bucket.client.get_paginator("list_parts").paginate(
        Bucket=bucket.name, Key=key, UploadId=multipart_id
    )
    with translate_s3_errors(bucket.client, bucket.at(key)):
        try:
            return {
                part["PartNumber"]: StoredPart(part["ETag"], part["Size"])
                for page in pages
                for part in page.get("Parts", ())
            }
        except bucket.client.exceptions.NoSuchUpload:
            return {}


def assemble(bucket: Bucket, key: str, multipart_id: str, parts: Mapping[int, StoredPart]) -> None:
    """Assemble the object from these parts, unless it exists or the multipart upload has ended."""
    with suppress(ConditionFailed), translate_s3_errors(bucket.client, bucket.at(key)):
        bucket.client.complete_multipart_upload(
            Bucket=bucket.name,
            Key=key,
            UploadId=multipart_id,
            MultipartUpload={
                "Parts": [{"PartNumber": number, "ETag": parts[number].etag} for number in sorted(parts)]
            },
            IfNoneMatch="*",
        )


def abort(bucket: Bucket, key: str, multipart_id: str) -> None:
    """Remove the parts, if the multipart upload has not ended."""
    ended = bucket.client.exceptions.NoSuchUpload
    with translate_s3_errors(bucket.client, bucket.at(key)), suppress(ended):
        bucket.client.abort_multipart_upload(Bucket=bucket.name, Key=key, UploadId=multipart_id)

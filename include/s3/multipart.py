"""Uploads files in parts, and handles multipart uploads whose parts other processes send.

The other processes are browsers with signed links, and processes that have been killed. All functions and
methods except `MultipartUpload.abort` raise StoreErrors.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from typing import IO, TYPE_CHECKING, NamedTuple, cast

from include.s3.errors import ConditionFailed, MultipartUploadEnded, StoreError, translate_s3_errors
from include.s3.local_file import Part, open_body

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

    from include.s3.bucket import Bucket
    from include.s3.local_file import LocalFile
    from include.s3.location import S3Location
    from include.s3.upload import Condition

log = logging.getLogger(__name__)


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


class MultipartUpload:
    """A multipart upload of one object; a second `send` sends only the parts that are missing."""

    def __init__(self, client: S3Client, location: S3Location, metadata: Mapping[str, str]) -> None:
        self._client, self._location = client, location
        self._arrived: dict[int, CompletedPartTypeDef] = {}
        with translate_s3_errors(client, location):
            self._id = client.create_multipart_upload(
                Bucket=location.bucket, Key=location.key, ChecksumAlgorithm="SHA256", Metadata=metadata
            )["UploadId"]

    @property
    def has_parts(self) -> bool:
        """Whether any part has arrived."""
        return bool(self._arrived)

    def send(self, file: LocalFile, parallel: int) -> None:
        """Send the parts of the file that have not arrived yet."""
        missing = [part for part in file.parts if part.number not in self._arrived]
        if self._arrived:
            log.info(
                "%s: %d of %d parts are in S3; sending the others.",
                self._location.uri, len(self._arrived), len(file.parts),
            )  # fmt: skip
        with ThreadPoolExecutor(parallel, thread_name_prefix="upload-part") as threads:
            sending = [threads.submit(copy_context().run, self._send_part, file, part) for part in missing]
            try:
                for part in sending:
                    part.result()
            except BaseException:
                # A part that arrives after an abort would stay in the bucket: unlisted, but billed.
                threads.shutdown(cancel_futures=True)
                raise

    def send_bytes(self, content: bytes) -> None:
        """Send these bytes as the only part."""
        part = Part(1, 0, len(content), hashlib.sha256(content).digest())
        self._send_body(content, part)

    def copy(self, source: S3Location, etag: str, size: int, part_size: int) -> None:
        """Copy all parts within S3, from the object at `source` if its ETag is still `etag`."""
        # Sequentially, because a deadline covers only requests from the thread that set it.
        for number, offset in enumerate(range(0, size, part_size), 1):
            with translate_s3_errors(self._client, self._location):
                copied = self._client.upload_part_copy(
                    Bucket=self._location.bucket,
                    Key=self._location.key,
                    UploadId=self._id,
                    PartNumber=number,
                    CopySource={"Bucket": source.bucket, "Key": source.key},
                    CopySourceIfMatch=etag,
                    CopySourceRange=f"bytes={offset}-{min(offset + part_size, size) - 1}",
                )["CopyPartResult"]
            part: CompletedPartTypeDef = {"PartNumber": number, "ETag": copied["ETag"]}
            if checksum := copied.get("ChecksumSHA256"):
                part["ChecksumSHA256"] = checksum
            self._arrived[number] = part

    def complete(self, condition: Condition) -> str:
        """Assemble the object from its parts and return its ETag."""
        with translate_s3_errors(self._client, self._location):
            return self._client.complete_multipart_upload(
                Bucket=self._location.bucket,
                Key=self._location.key,
                UploadId=self._id,
                MultipartUpload={"Parts": [self._arrived[number] for number in sorted(self._arrived)]},
                **condition,
            )["ETag"]

    def abort(self) -> None:
        """Abort the upload, which removes its parts; log a warning if that fails."""
        try:
            abort_multipart_upload(self._client, self._location, self._id)
        except StoreError as error:
            log.warning(
                "Parts of upload %s to %s could not be removed (%s); a lifecycle rule that aborts incomplete "
                "multipart uploads would remove them.",
                self._id,
                self._location.uri,
                error,
            )

    def _send_part(self, file: LocalFile, part: Part) -> None:
        with open_body(file.path, part.offset, part.size) as content:
            self._send_body(cast("IO[bytes]", content), part)

    def _send_body(self, content: IO[bytes] | bytes, part: Part) -> None:
        with translate_s3_errors(self._client, self._location):
            etag = self._client.upload_part(
                Bucket=self._location.bucket,
                Key=self._location.key,
                UploadId=self._id,
                PartNumber=part.number,
                Body=content,
                ChecksumSHA256=part.checksum,
            )["ETag"]
        self._arrived[part.number] = {
            "PartNumber": part.number,
            "ETag": etag,
            "ChecksumSHA256": part.checksum,
        }


def abort_multipart_upload(client: S3Client, location: S3Location, upload_id: str) -> bool:
    """Remove the parts. Returns False if the multipart upload had already ended."""
    try:
        with translate_s3_errors(client, location):
            client.abort_multipart_upload(Bucket=location.bucket, Key=location.key, UploadId=upload_id)
    except MultipartUploadEnded:
        return False
    return True


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

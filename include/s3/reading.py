"""Reads objects' metadata, and their bytes: a stored checksum does not prove that these are still intact."""

from __future__ import annotations

import hashlib
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from include.blocks import BLOCK
from include.s3.download import REREAD_SECONDS, FetchedObject
from include.s3.errors import ConditionFailed, CorruptObject, ObjectNotFound, StoreBusy, translate_s3_errors

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

    from include.s3.location import S3Location


def head_object(client: S3Client, location: S3Location) -> HeadObjectOutputTypeDef | None:
    """Return S3's response to HEAD; None if there is no such object. Raises StoreErrors.

    A failed HEAD is followed by a GET. Only the response to a GET has a body, which says whether the bucket
    or the object is missing, or why access is denied.
    """
    from botocore.exceptions import ClientError

    try:
        with translate_s3_errors(client, location):
            with suppress(ClientError):
                return _send_head(client, location)
            client.get_object(Bucket=location.bucket, Key=location.key)["Body"].close()  # unread
            return _send_head(client, location)  # the object was written in the meantime
    except ObjectNotFound:
        return None


def _send_head(client: S3Client, location: S3Location) -> HeadObjectOutputTypeDef:
    return client.head_object(Bucket=location.bucket, Key=location.key, ChecksumMode="ENABLED")


def read_settled_object(client: S3Client, location: S3Location) -> FetchedObject:
    """Read an object until its content is certain, without relying on a stored SHA-256.

    The content is certain if the object's ETag is the MD5 of the received bytes. An ETag need not be an MD5,
    so three equal reads also make it certain. Raises StoreBusy if reads differ, and the errors of
    `read_object`.
    """
    readings = []
    for pause in (0.0, *REREAD_SECONDS):
        time.sleep(pause)
        md5 = hashlib.md5(usedforsecurity=False)
        read = read_object(client, location, md5)
        if read.etag.strip('"') == md5.hexdigest():
            return read
        readings.append(read)
    if len({read.sha256 for read in readings}) > 1:
        raise StoreBusy(f"{location.uri} was read three times, and its bytes differed")
    return readings[0]


def read_object(client: S3Client, location: S3Location, *more: hashlib._Hash) -> FetchedObject:
    """Read the whole object, and return its SHA-256, size, ETag and metadata, but not its bytes.

    The digests in `more` are updated with the bytes, too. Raises ObjectNotFound, CorruptObject (if the server
    itself finds it damaged) and other StoreErrors.
    """
    sha256, size = hashlib.sha256(), 0
    with translate_s3_errors(client, location):
        answer = client.get_object(Bucket=location.bucket, Key=location.key)
        for block in answer["Body"].iter_chunks(BLOCK):
            for digest in (sha256, *more):
                digest.update(block)
            size += len(block)
    return FetchedObject(sha256.hexdigest(), size, answer["ETag"], answer["Metadata"])


def read_range(client: S3Client, location: S3Location, etag: str, start: int, stop: int) -> Iterator[bytes]:
    """Yield bytes `start` to `stop` - 1 of the object, in blocks, if it has that ETag.

    Raises ObjectNotFound; ConditionFailed if the ETag differs, or RangeNotSatisfiable if the server checks
    the range first; and other StoreErrors.
    """
    with translate_s3_errors(client, location):
        answer = client.get_object(
            Bucket=location.bucket, Key=location.key, Range=f"bytes={start}-{stop - 1}", IfMatch=etag
        )
        yield from answer["Body"].iter_chunks(BLOCK)


class ObjectSource:
    """Random access to one version of an object in S3 (the Source for an inspection)."""

    def __init__(self, client: S3Client, location: S3Location, size: int, etag: str) -> None:
        self.size = size
        self._client, self._location, self._etag = client, location, etag

    def read(self, start: int, length: int) -> bytes:
        """Return `length` bytes, starting at `start`. Raises StoreErrors."""
        if length == 0:
            return b""
        try:
            return b"".join(read_range(self._client, self._location, self._etag, start, start + length))
        except ConditionFailed:
            raise CorruptObject(
                f"{self._location.uri} was replaced while it was being read; try again once its upload has "
                "finished"
            ) from None

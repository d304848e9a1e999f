"""Read objects: what S3 says about them, and the bytes themselves, which no stored checksum can prove."""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

from include.s3.download import REREAD_SECONDS, FetchedObject
from include.s3.errors import CorruptObject, StoreBusy, is_condition_failed, is_not_found, translate_s3_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

    from include.s3.location import S3Location

_BLOCK = 1024**2


def head_object(client: S3Client, location: S3Location) -> HeadObjectOutputTypeDef | None:
    """Return S3's answer to HEAD; None if there is no such object. Raises StoreErrors.

    The answer to a HEAD has no body, so it does not say whether the bucket or the object is missing, nor why
    something is forbidden; a listing does.
    """
    from botocore.exceptions import ClientError

    with translate_s3_errors(client, location):
        try:
            return client.head_object(Bucket=location.bucket, Key=location.key, ChecksumMode="ENABLED")
        except ClientError as error:
            client.list_objects_v2(Bucket=location.bucket, Prefix=location.key, MaxKeys=1)
            if is_not_found(error):
                return None
            raise


def settled_object(client: S3Client, location: S3Location) -> FetchedObject:
    """Read an object until it is certain what it holds, also where it carries no SHA-256.

    That is so when its ETag is the MD5 of what arrived. It need not be one; then three equal readings count.
    Raises StoreBusy where they differ, and what `read_object` raises.
    """
    readings = []
    for pause in (0.0, *REREAD_SECONDS):
        time.sleep(pause)
        md5 = hashlib.md5(usedforsecurity=False)
        read = _read(client, location, hashlib.sha256(), md5)
        if read.etag.strip('"') == md5.hexdigest():
            return read
        readings.append(read)
    if len({read.sha256 for read in readings}) > 1:
        raise StoreBusy(f"{location.uri} was read three times, and not with the same bytes each time")
    return readings[0]


def read_object(client: S3Client, location: S3Location) -> FetchedObject:
    """Read the whole object, keep nothing of it, and say what it was.

    Raises ObjectNotFound, CorruptObject (where the server itself finds it damaged) and other StoreErrors.
    """
    return _read(client, location, hashlib.sha256())


def _read(
    client: S3Client, location: S3Location, sha256: hashlib._Hash, *more: hashlib._Hash
) -> FetchedObject:
    """Feed all that the object holds to the digests."""
    size = 0
    with translate_s3_errors(client, location):
        answer = client.get_object(Bucket=location.bucket, Key=location.key)
        for block in answer["Body"].iter_chunks(_BLOCK):
            for digest in (sha256, *more):
                digest.update(block)
            size += len(block)
    return FetchedObject(sha256.hexdigest(), size, answer["ETag"], answer["Metadata"])


class ObjectSource:
    """An object in S3 that is read in parts (a Source of an inspection), all of the same version."""

    def __init__(self, client: S3Client, location: S3Location, size: int, etag: str) -> None:
        self.size = size
        self._client, self._location, self._etag = client, location, etag

    def read(self, start: int, length: int) -> bytes:
        """Return the `length` bytes from `start` on. Raises StoreErrors."""
        from botocore.exceptions import ClientError

        if length == 0:
            return b""
        with translate_s3_errors(self._client, self._location):
            try:
                return self._client.get_object(
                    Bucket=self._location.bucket,
                    Key=self._location.key,
                    Range=f"bytes={start}-{start + length - 1}",
                    IfMatch=self._etag,
                )["Body"].read()
            except ClientError as error:
                if not is_condition_failed(error):
                    raise
                raise CorruptObject(
                    f"{self._location.uri} was replaced while it was read; try again when its upload "
                    "has ended"
                ) from None

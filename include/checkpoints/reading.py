"""The bytes of an object as they are now: what no stored checksum can prove."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from include.checkpoints.errors import explained
from include.checkpoints.fetching import FetchedObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.checkpoints.location import S3Location

_BLOCK = 1024**2


def read_object(client: S3Client, location: S3Location) -> FetchedObject:
    """Read the whole object, keep nothing of it, and say what it was.

    Raises ObjectNotFound, CorruptCheckpoint (where the server itself finds it damaged) and other StoreErrors.
    """
    digest, size = hashlib.sha256(), 0
    with explained(client, location):
        answer = client.get_object(Bucket=location.bucket, Key=location.key)
        for block in answer["Body"].iter_chunks(_BLOCK):
            digest.update(block)
            size += len(block)
    return FetchedObject(digest.hexdigest(), size, answer["ETag"], answer["Metadata"])

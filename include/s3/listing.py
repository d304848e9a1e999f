"""Listing a bucket page by page: a million objects take no more memory than a thousand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from include.s3.errors import translate_s3_errors
from include.s3.layout import CHECKPOINTS
from include.s3.location import S3Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectsV2OutputTypeDef

PAGE_SIZE = 1000
"""Number of keys; S3 returns no more at once."""


@dataclass(frozen=True)
class ListedObject:
    """One object as a listing shows it: size in bytes, etag and modified as S3 has them."""

    location: S3Location
    size: int
    etag: str
    modified: datetime

    @property
    def job_id(self) -> str | None:
        """The job below whose prefix it is; None for any other object."""
        parts = self.location.key.removeprefix(CHECKPOINTS).split("/")
        return parts[0] if self.location.key.startswith(CHECKPOINTS) and len(parts) > 1 else None

    @property
    def name(self) -> str:
        """Its key without the job's prefix, such as `last.pt`."""
        return self.location.key.removeprefix(f"{CHECKPOINTS}{self.job_id}/")


def pages(client: S3Client, prefix: S3Location) -> Iterator[list[ListedObject]]:
    """Yield the objects below `prefix` in pages of at most PAGE_SIZE. Raises StoreErrors."""
    paginator = client.get_paginator("list_objects_v2")
    with translate_s3_errors(client, prefix):
        for page in paginator.paginate(
            Bucket=prefix.bucket, Prefix=prefix.key, PaginationConfig={"PageSize": PAGE_SIZE}
        ):
            yield _objects(page, prefix.bucket)


def list_level(client: S3Client, prefix: S3Location) -> Iterator[ListedObject | str]:
    """Yield the objects directly below `prefix`, and the prefixes of the others up to the next slash.

    Raises StoreErrors.
    """
    paginator = client.get_paginator("list_objects_v2")
    with translate_s3_errors(client, prefix):
        for page in paginator.paginate(
            Bucket=prefix.bucket, Prefix=prefix.key, Delimiter="/", PaginationConfig={"PageSize": PAGE_SIZE}
        ):
            yield from _objects(page, prefix.bucket)
            yield from (item["Prefix"] for item in page.get("CommonPrefixes", ()))


def _objects(page: ListObjectsV2OutputTypeDef, bucket: str) -> list[ListedObject]:
    return [
        ListedObject(S3Location(bucket, item["Key"]), item["Size"], item["ETag"], item["LastModified"])
        for item in page.get("Contents", ())
        if not item["Key"].endswith("/")  # folders, which some servers and clients create
    ]

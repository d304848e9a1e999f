"""Listing a bucket page by page: a million objects take no more memory than a thousand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from include.s3.errors import translate_s3_errors
from include.s3.layout import CHECKPOINTS
from include.s3.location import S3Location

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.paginator import ListObjectsV2Paginator
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
        """Id of the job under whose prefix the object is; None for any other object."""
        parts = self.location.key.removeprefix(CHECKPOINTS).split("/")
        return parts[0] if self.location.key.startswith(CHECKPOINTS) and len(parts) > 1 else None

    @property
    def name(self) -> str:
        """Its key without the job's prefix, such as `last.pt`."""
        return self.location.key.removeprefix(f"{CHECKPOINTS}{self.job_id}/")


def pages(client: S3Client, prefix: S3Location) -> Iterator[list[ListedObject]]:
    """Yield the objects below `prefix` in pages of at most PAGE_SIZE. Raises StoreErrors."""
    paginator = _paginator(client)
    with translate_s3_errors(client, prefix):
        for page in paginator.paginate(
            Bucket=prefix.bucket, Prefix=prefix.key, PaginationConfig={"PageSize": PAGE_SIZE}
        ):
            yield _objects(page, prefix.bucket)


def list_level(client: S3Client, prefix: S3Location) -> Iterator[ListedObject | str]:
    """Yield the objects directly below `prefix`, and the prefixes of the others up to the next slash.

    Raises StoreErrors.
    """
    paginator = _paginator(client)
    with translate_s3_errors(client, prefix):
        for page in paginator.paginate(
            Bucket=prefix.bucket, Prefix=prefix.key, Delimiter="/", PaginationConfig={"PageSize": PAGE_SIZE}
        ):
            yield from _objects(page, prefix.bucket)
            yield from (item["Prefix"] for item in page.get("CommonPrefixes", ()))


def _paginator(client: S3Client) -> ListObjectsV2Paginator:
    """Return a paginator that reads the objects of a page in a tenth of the time that botocore takes."""
    # A handler with an id is registered once, however often this is called.
    client.meta.events.register("before-parse.s3.ListObjectsV2", _read_objects, unique_id="read-objects")
    return client.get_paginator("list_objects_v2")


def _read_objects(
    response_dict: dict[str, Any], customized_response_dict: dict[str, Any], **_: object
) -> None:
    """Read a page's objects, and leave the rest of the page to botocore, or all of it if it is unusual."""
    body = response_dict.get("body")
    if not isinstance(body, bytes):
        return
    with suppress(ElementTree.ParseError, ValueError):
        page = ElementTree.fromstring(body)  # noqa: S314  botocore reads it in the same way
        namespace = page.tag.removesuffix("ListBucketResult")
        objects = page.findall(f"{namespace}Contents")
        fields = [_fields(item, namespace) for item in objects]
        if fields:
            for item in objects:
                page.remove(item)
            response_dict["body"] = ElementTree.tostring(page)
            customized_response_dict["Contents"] = fields


def _fields(item: ElementTree.Element, namespace: str) -> dict[str, object]:
    fields = {}
    for element in item:
        if len(element):
            raise ValueError(f"{element.tag} is nested")
        name = element.tag.removeprefix(namespace)
        fields[name] = _TYPES.get(name, str)(element.text or "")
    return fields


def _read_time(text: str) -> datetime:
    time = datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError(f"{text} has no time zone")
    return time


_TYPES: dict[str, Callable[[str], object]] = {
    "Size": int,
    "LastModified": _read_time,
    "ChecksumAlgorithm": lambda text: [text],
}
"""How the fields that are not text are read."""


def _objects(page: ListObjectsV2OutputTypeDef, bucket: str) -> list[ListedObject]:
    return [
        ListedObject(S3Location(bucket, item["Key"]), item["Size"], item["ETag"], item["LastModified"])
        for item in page.get("Contents", ())
        if not item["Key"].endswith("/")  # folders, which some servers and clients create
    ]

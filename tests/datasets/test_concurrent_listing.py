"""Every object of a prefix is listed once and in order, although folders are listed concurrently."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from include.datasets.caching import concurrent_listing
from include.datasets.caching.concurrent_listing import list_objects
from include.datasets.errors import DatasetError
from include.datasets.s3 import S3ObjectReader
from include.datasets.storage import StoredObject

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NAMES = [
    "data.yaml",
    *(f"images/{split}/{number:03}.jpg" for split in ("train", "val") for number in range(8)),
    *(f"images-of-2025/{number}.jpg" for number in range(3)),
    "images.txt",
    "labels/a/b/c/d.txt",
    "labels/a/b.txt",
    "labels/a-b/ä ö.txt",
]


class Watched(S3ObjectReader):
    """Counts the folders that it lists."""

    def __init__(self, client: S3Client) -> None:
        super().__init__(client)
        self.folders = 0
        self._changed = threading.Lock()
        self.together: threading.Barrier | None = None
        """Where the listings of two folders wait for each other, if set."""

    def list_level(self, bucket: str, prefix: str) -> Iterator[StoredObject | str]:
        if self.together and prefix != "set/images/":
            self.together.wait()
        with self._changed:
            self.folders += 1
        yield from super().list_level(bucket, prefix)


@pytest.fixture
def reader(s3_client: S3Client) -> Watched:
    return Watched(s3_client)


@pytest.fixture
def stored(s3_client: S3Client, bucket: str) -> list[str]:
    """The keys below set/, in the order of S3; the bucket has others beside them."""
    keys = [f"set/{name}" for name in NAMES]
    with ThreadPoolExecutor(8) as pool:
        for key in (*keys, "set", "settings/a.jpg", "se/a.jpg", "set/folder/"):
            pool.submit(s3_client.put_object, Bucket=bucket, Key=key, Body=key.encode())
    return sorted(keys)


def listed(reader: S3ObjectReader, bucket: str, prefix: str = "set/") -> list[str]:
    return [found.key for found in list_objects(reader, bucket, prefix)]


@pytest.mark.parametrize("page", [1000, 1])
def test_every_object_is_listed_once_in_the_order_of_the_keys(
    page: int, stored: list[str], reader: Watched, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrent_listing, "_PAGE", page)
    found = list(list_objects(reader, bucket, "set/"))
    assert [each.key for each in found] == stored
    assert all(each == reader.stat(bucket, each.key) for each in found)
    assert reader.folders == (0 if page == 1000 else 11), "a small dataset takes one request"


def test_folders_are_listed_beside_each_other(
    stored: list[str], reader: Watched, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The listings of two folders that wait for each other both end."""
    monkeypatch.setattr(concurrent_listing, "_PAGE", 1)
    reader.together = threading.Barrier(2, timeout=60)
    assert listed(reader, bucket, "set/images/") == [key for key in stored if key.startswith("set/images/")]


def test_more_objects_than_the_limit_are_refused(
    stored: list[str], reader: Watched, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrent_listing, "_PAGE", 1)
    monkeypatch.setattr(concurrent_listing, "PREFIX_OBJECTS", len(stored))
    assert len(listed(reader, bucket)) == len(stored)
    monkeypatch.setattr(concurrent_listing, "PREFIX_OBJECTS", len(stored) - 1)
    with pytest.raises(DatasetError, match=rf"set/ contains more than {len(stored) - 1} objects"):
        listed(reader, bucket)


@pytest.mark.usefixtures("stored")
def test_a_listing_that_nobody_reads_to_its_end_stops(
    reader: Watched, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrent_listing, "_PAGE", 1)
    before = threading.active_count()
    objects = list_objects(reader, bucket, "set/")
    next(objects)
    objects.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_what_is_nested_without_an_end_is_refused(
    s3_client: S3Client, reader: Watched, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrent_listing, "_PAGE", 1)
    deep = "a/" * 66
    for name in ("0.jpg", "1.jpg"):
        s3_client.put_object(Bucket=bucket, Key=f"set/{deep}{name}", Body=b"")
    with pytest.raises(DatasetError, match="nested more than 64 folders deep"):
        listed(reader, bucket)

"""Every object of a prefix is listed once and in order, although folders are listed concurrently."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from include.datasets.caching import concurrent_listing
from include.datasets.caching.concurrent_listing import find_division, list_objects
from include.datasets.errors import DatasetError
from include.datasets.s3 import S3ObjectReader
from include.datasets.storage import Page
from include.s3 import listing

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
    """An S3 reader that remembers the folders that it lists."""

    def __init__(self, client: S3Client) -> None:
        super().__init__(client)
        self.folders: set[str] = set()
        self.longest = 0
        """The largest number of objects and folders that one listing returned."""
        self._changed = threading.Lock()
        self.together: threading.Barrier | None = None
        """If set, the listings of two folders wait here for each other."""

    def list_level(self, bucket: str, prefix: str, after: str = "") -> Iterator[Page]:
        if self.together and prefix != "set/images/" and not after:
            self.together.wait()
        with self._changed:
            self.folders.add(prefix)
        number = 0
        for page in super().list_level(bucket, prefix, after):
            yield page
            number += len(page)
            with self._changed:
                self.longest = max(self.longest, number)


@pytest.fixture
def watched_reader(s3_client: S3Client) -> Watched:
    return Watched(s3_client)


@pytest.fixture
def stored(s3_client: S3Client, bucket: str) -> list[str]:
    """Return the keys below set/ in the order of S3; the bucket also holds other keys."""
    keys = [f"set/{name}" for name in NAMES]
    with ThreadPoolExecutor(8) as pool:
        for key in (*keys, "set", "settings/a.jpg", "se/a.jpg", "set/folder/"):
            pool.submit(s3_client.put_object, Bucket=bucket, Key=key, Body=key.encode())
    return sorted(keys)


def listed(reader: S3ObjectReader, bucket: str, prefix: str = "set/") -> list[str]:
    return [found.key for found in list_objects(reader, bucket, prefix)]


@pytest.mark.parametrize("page", [1000, 1])
def test_every_object_is_listed_once_in_the_order_of_the_keys(
    page: int, stored: list[str], watched_reader: Watched, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrent_listing, "_PAGE", page)
    found = list(list_objects(watched_reader, bucket, "set/"))
    assert [each.key for each in found] == stored
    assert all(each == watched_reader.stat(bucket, each.key) for each in found)
    assert len(watched_reader.folders) == (0 if page == 1000 else 11), "a small dataset takes one request"


def test_folders_are_listed_concurrently(
    stored: list[str], watched_reader: Watched, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two listings that wait for each other can only end if they run at the same time."""
    monkeypatch.setattr(concurrent_listing, "_PAGE", 1)
    watched_reader.together = threading.Barrier(2, timeout=60)
    assert listed(watched_reader, bucket, "set/images/") == [
        key for key in stored if key.startswith("set/images/")
    ]


def test_more_objects_than_the_limit_are_refused(
    stored: list[str], watched_reader: Watched, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrent_listing, "_PAGE", 1)
    monkeypatch.setattr(concurrent_listing, "PREFIX_OBJECTS", len(stored))
    assert len(listed(watched_reader, bucket)) == len(stored)
    monkeypatch.setattr(concurrent_listing, "PREFIX_OBJECTS", len(stored) - 1)
    with pytest.raises(DatasetError, match=rf"set/ exceeds the limit of {len(stored) - 1} objects"):
        listed(watched_reader, bucket)


@pytest.mark.usefixtures("stored")
def test_a_listing_that_is_closed_early_stops_its_threads(
    watched_reader: Watched, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrent_listing, "_PAGE", 1)
    before = set(threading.enumerate())
    objects = list_objects(watched_reader, bucket, "set/")
    next(objects)
    objects.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) <= before


def test_folders_that_are_nested_more_than_64_deep_are_refused(
    s3_client: S3Client, watched_reader: Watched, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrent_listing, "_PAGE", 1)
    deep = "a/" * 66
    for name in ("0.jpg", "1.jpg"):
        s3_client.put_object(Bucket=bucket, Key=f"set/{deep}{name}", Body=b"")
    with pytest.raises(DatasetError, match="nested more than 64 folders deep"):
        listed(watched_reader, bucket)


FLAT = {
    "numbers": [f"set/images/{number:07}.jpg" for number in range(300)],
    "hashes": [f"set/images/{hashlib.sha256(bytes([number])).hexdigest()}.png" for number in range(256)],
    "mixed": [
        *(f"set/{letter}{number}" for letter in "aZ.- ~ä" for number in range(20)),
        *(f"set/a{number}/in a folder" for number in range(0, 40, 2)),
        *(f"set/a{number}/" for number in range(1, 40, 2)),
        *(f"set/a{number}-" for number in range(20)),
    ],
}


@pytest.mark.parametrize("names", FLAT)
def test_a_large_folder_is_divided_among_several_requests(
    names: str, s3_client: S3Client, watched_reader: Watched, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrent_listing, "_PAGE", 10)
    monkeypatch.setattr(listing, "PAGE_SIZE", 10)
    with ThreadPoolExecutor() as pool:
        for key in FLAT[names]:
            pool.submit(s3_client.put_object, Bucket=bucket, Key=key, Body=key.encode())
    keys = sorted(key for key in FLAT[names] if not key.endswith("/"))
    assert listed(watched_reader, bucket) == keys
    assert watched_reader.longest < len(keys) - 10, "no request went through the whole folder"


class Odd(Watched):
    """A server that ignores `after`, and that also reverses each page unless `ordered` is set."""

    def __init__(self, client: S3Client, ordered: bool) -> None:
        super().__init__(client)
        self.ordered = ordered

    def list_level(self, bucket: str, prefix: str, after: str = "") -> Iterator[Page]:
        for page in super().list_level(bucket, prefix):
            yield page if self.ordered else page[::-1]


@pytest.mark.parametrize("ordered", [True, False])
def test_no_object_is_lost_or_repeated_if_the_server_ignores_order_or_start_key(
    ordered: bool, stored: list[str], s3_client: S3Client, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(concurrent_listing, "_PAGE", 2)
    monkeypatch.setattr(listing, "PAGE_SIZE", 2)
    assert sorted(listed(Odd(s3_client, ordered), bucket)) == stored


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(max_size=80), min_size=1, max_size=5, unique=True), st.text(max_size=80))
def test_a_range_is_divided_within_its_bounds(names: list[str], last: str) -> None:
    names.sort()
    division = find_division(names, None)
    assert division is None or division > names[-1]
    division = find_division(names, last)
    assert division is None or names[-1] < division < last


@pytest.mark.parametrize("known", [None, "9999.jpg"])
def test_a_long_range_is_divided_a_few_pages_after_its_start(known: str | None) -> None:
    names = [f"{number:04}.jpg" for number in range(1000, 1100)]
    division = find_division(names, known)
    assert division is not None
    assert "1500" < division < "2100"


def test_a_range_that_ends_soon_is_halved() -> None:
    names = [f"{number:04}.jpg" for number in range(1000, 1100)]
    division = find_division(names, "1200.jpg")
    assert division is not None
    assert "1140" < division < "1160"

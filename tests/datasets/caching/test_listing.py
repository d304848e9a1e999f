"""A listing is read line by line, so memory use does not grow with its length."""

from __future__ import annotations

import gzip
import hashlib
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.datasets.caching.listing import DAMAGED, Listing
from include.datasets.fingerprint import compute_tree_fingerprint
from include.datasets.sources import S3Tree
from include.datasets.storage import StoredObject

ORIGIN = S3Tree("bucket", "set/", "data.yaml")
MIB = 1024**2


def objects(count: int) -> Iterator[tuple[str, StoredObject]]:
    for number in range(count):
        name = f"images/train/{number:07}.jpg"
        etag = hashlib.md5(name.encode()).hexdigest()  # noqa: S324 - as S3 does
        yield name, StoredObject("bucket", f"set/{name}", number, etag)


def test_a_listing_can_be_read_repeatedly_and_equals_what_was_written(tmp_path: Path) -> None:
    written = Listing.write(ORIGIN, objects(1000))
    assert list(written) == list(written) == list(objects(1000))
    written.copy_to(tmp_path / "listing")
    read = Listing.read(tmp_path / "listing", ORIGIN)
    assert (read.fingerprint, read.count) == (written.fingerprint, 1000)
    assert read.fingerprint == compute_tree_fingerprint(objects(1000), "data.yaml")
    (tmp_path / "listing").unlink()
    assert list(read) == list(objects(1000))


def test_a_listing_of_twenty_thousand_objects_takes_little_memory(tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        written = Listing.write(ORIGIN, objects(20_000))
        written.copy_to(tmp_path / "listing")
        assert sum(1 for _ in Listing.read(tmp_path / "listing", ORIGIN)) == 20_000
        _, largest = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert largest < MIB + MIB // 2


def test_a_truncated_listing_is_not_read(tmp_path: Path) -> None:
    Listing.write(ORIGIN, objects(100)).copy_to(tmp_path / "listing")
    whole = (tmp_path / "listing").read_bytes()
    for size in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        (tmp_path / "listing").write_bytes(whole[:size])
        try:
            assert Listing.read(tmp_path / "listing", ORIGIN).count == 0
        except DAMAGED:
            continue
    (tmp_path / "listing").write_bytes(b"x" * 1000)
    with pytest.raises(DAMAGED):
        Listing.read(tmp_path / "listing", ORIGIN)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "{}",
        "null",
        '["a", 1]',
        '[["a"], 1, "etag"]',
        '[{"a": {}}, 1, "etag"]',
        '["a", Infinity, "etag"]',
        '["a", NaN, "etag"]',
        "[" * 8_000,
    ],
)
def test_a_listing_with_an_invalid_line_is_damaged(line: str, tmp_path: Path) -> None:
    (tmp_path / "listing").write_bytes(gzip.compress(f"null\n{line}\n".encode()))
    with pytest.raises(DAMAGED):
        Listing.read(tmp_path / "listing", ORIGIN)

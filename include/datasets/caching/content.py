"""Finds datasets in S3: their fingerprints, and functions that fetch them, check them and repair them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets.caching.archive import measure_unpacked, unpack
from include.datasets.caching.cache import is_complete
from include.datasets.caching.download import Downloader
from include.datasets.caching.eviction import make_room_for
from include.datasets.caching.selection import list_tree
from include.datasets.caching.tree import TreeFetch, is_tree_intact, list_content, repair_content
from include.datasets.confinement import run_confined
from include.datasets.disk import flush
from include.datasets.fingerprint import compute_file_fingerprint, require_expected
from include.datasets.progress import ProgressLog
from include.datasets.sources import S3File, S3Tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from include.datasets.caching.cache import DatasetCache
    from include.datasets.caching.listing import Listing, S3Listings
    from include.datasets.storage import ObjectReader, StoredObject

log = logging.getLogger(__name__)

EXPORT_NAME = "export.ndjson"
"""The name that an .ndjson file gets in the cache."""


@dataclass(frozen=True)
class RemoteDataset:
    """A dataset in S3 that this machine can fetch."""

    uri: str
    """Address of the dataset, for messages."""
    fingerprint: str
    """Identifies the content."""
    fill: Callable[[Path], None]
    """Fetches all files into an empty folder."""
    is_intact: Callable[[Path], bool]
    """Returns whether a filled folder has all files of its listing, each with the listed size."""
    repair: Callable[[Path], None]
    """Fetches the missing or damaged files of a folder that was filled before."""


def find_file(
    origin: S3File, cache: DatasetCache, reader: ObjectReader, expected: str | None
) -> RemoteDataset:
    """Find a zip or .ndjson file. Raises DatasetChanged if its fingerprint differs from `expected`."""
    stored = reader.stat(origin.bucket, origin.key)
    fingerprint = compute_file_fingerprint(origin, stored)
    require_expected(fingerprint, expected, stored.uri)
    fetch = _FileFetch(origin, stored, cache, reader)
    return RemoteDataset(stored.uri, fingerprint, fetch.fill, fetch.is_intact, fetch.repair)


@dataclass(frozen=True)
class _FileFetch:
    """Fetches a zip file and unpacks it, or fetches an .ndjson file."""

    origin: S3File
    """The file, as the source names it."""
    stored: StoredObject
    """The file, as it was found in S3."""
    cache: DatasetCache
    """This machine's cache."""
    reader: ObjectReader
    """Reads the file."""

    def fill(self, target: Path) -> None:
        """Put the files into the empty folder `target`, and list them beside it."""
        if self.origin.is_zip:
            self._unpack(target)
        else:
            self._download(target / EXPORT_NAME)
        list_content(target, _describe_content(self.origin))
        flush(target)

    def is_intact(self, content: Path) -> bool:
        """Return whether a folder has all listed files with the right sizes."""
        return is_tree_intact(content.parent, _describe_content(self.origin))

    def repair(self, content: Path) -> None:
        """Fetch the file again, and replace damaged files."""
        repair_content(content, _describe_content(self.origin), self.fill)

    def _unpack(self, target: Path) -> None:
        file, uri = target.with_suffix(".zip"), self.stored.uri
        file.unlink(missing_ok=True)  # a killed process may have left it
        try:
            self._download(file)
            needed = run_confined(measure_unpacked, str(file), uri, source=uri)
            make_room_for(uri, target, self.cache, needed)
            run_confined(unpack, str(file), str(target), uri, str(self.cache.files.folder), source=uri)
        finally:
            file.unlink(missing_ok=True)

    def _download(self, file: Path) -> None:
        uri, size = self.stored.uri, self.stored.size
        make_room_for(uri, file.parent, self.cache, size)
        Downloader(self.reader, ProgressLog(f"Fetching {uri}", size, "bytes")).download([(self.stored, file)])


def _describe_content(origin: S3File) -> S3Tree:
    """Return the prefix for the listing of a zip's files, or of an export; there are no such objects."""
    return S3Tree(origin.bucket, f"{origin.key}/")


def find_tree(
    origin: S3Tree,
    cache: DatasetCache,
    reader: ObjectReader,
    listings: S3Listings | None,
    expected: str | None,
) -> RemoteDataset:
    """Find the objects of a dataset under a prefix.

    Without `expected`, these are the current objects, and their listing is saved. With `expected`, they are
    the objects of the saved listing. Fetching a listed object that was replaced or deleted raises
    DatasetChanged, which names the object. If there is no intact listing, this function raises DatasetChanged
    unless the current objects have the fingerprint `expected`.
    """
    listing = _select_listing(origin, reader, listings, expected)
    fetch = TreeFetch(listing, cache, reader)
    return RemoteDataset(origin.uri, listing.fingerprint, fetch.fill, fetch.is_intact, fetch.repair)


def _select_listing(
    origin: S3Tree, reader: ObjectReader, listings: S3Listings | None, expected: str | None
) -> Listing:
    """Return the objects to fetch."""
    if expected is not None and listings is not None:
        checked = listings.load(expected, origin)
        if checked is not None:
            return checked
        log.warning(
            "There is no intact listing of the objects that were checked under %s; fetching fails if objects "
            "have been changed, added or deleted since the check.",
            origin.uri,
        )
    listing = list_tree(origin, reader)
    require_expected(listing.fingerprint, expected, origin.uri)
    if listings is not None:
        listings.save(listing)
    return listing


def is_intact(home: Path, origin: S3File | S3Tree) -> bool:
    """Return whether a dataset's folder is complete and its files have the right sizes.

    The sizes are compared with the listing beside the content. Without an intact listing, this returns False.
    """
    tree = origin if isinstance(origin, S3Tree) else _describe_content(origin)
    return is_complete(home / "content") and is_tree_intact(home, tree)


def compute_stored_fingerprint(origin: S3File | S3Tree, reader: ObjectReader) -> str:
    """Return the fingerprint of the current objects in S3, without fetching images or labels.

    Fetched content has the same fingerprint, but a converted copy has a different one. Raises DatasetError if
    there are no objects, and StoreErrors.
    """
    if isinstance(origin, S3File):
        return compute_file_fingerprint(origin, reader.stat(origin.bucket, origin.key))
    return list_tree(origin, reader).fingerprint

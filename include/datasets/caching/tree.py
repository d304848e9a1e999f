"""Lists the objects of a dataset under a prefix, and fetches them into the cache.

    {cache}/{fingerprint}/content/            the fetched files; damaged files are fetched again
    {cache}/{fingerprint}/repair/             replacements for damaged files, until all are complete
    {cache}/{fingerprint}/listing.jsonl.gz    names, sizes and ETags of all files
    {cache}/{fingerprint}/damaged.jsonl.gz    the same for the files that are being fetched again
    {cache}/{fingerprint}/lacking.jsonl.gz    the same for the files that are being downloaded

The files are links to those in the store (file_store.py), so only files that this machine lacks are
downloaded.
"""

from __future__ import annotations

import gc
import itertools
import logging
import os
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from include.datasets.caching.download import Downloader
from include.datasets.caching.eviction import make_room_for
from include.datasets.caching.linking import MissingData, explain_clash, link_objects
from include.datasets.caching.listing import DAMAGED, Listing, read_objects, write_objects
from include.datasets.caching.selection import select_objects
from include.datasets.caching.view_lock import mark_outdated
from include.datasets.confinement import run_confined
from include.datasets.disk import flush
from include.datasets.errors import DatasetError
from include.datasets.layouts.samples import is_image
from include.datasets.names import is_ignored, split_safely
from include.datasets.progress import ProgressLog
from include.datasets.shares import MANY, PROCESSES
from include.limits import PREFIX_OBJECTS, in_words
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from include.datasets.caching.cache import DatasetCache
    from include.datasets.sources import S3Tree
    from include.datasets.storage import ObjectReader, StoredObject

log = logging.getLogger(__name__)

_LISTING = "listing.jsonl.gz"


def list_tree(origin: S3Tree, reader: ObjectReader) -> Listing:
    """List the objects of the dataset, named relative to the prefix."""
    with _freeze_older_objects():
        found = itertools.islice(_iterate_tree(origin, reader), PREFIX_OBJECTS + 1)
        listing = Listing.write(origin, found)
    if listing.count > PREFIX_OBJECTS:
        raise DatasetError(
            f"{origin.uri} exceeds the limit of {PREFIX_OBJECTS:,} objects; give a prefix with fewer"
        )
    if not listing.count:
        raise DatasetError(
            f"There are no objects at {origin.uri}; check the bucket and the prefix, or upload the data there"
        )
    return listing


@contextmanager
def _freeze_older_objects() -> Iterator[None]:
    """Exclude the existing Python objects from garbage collection, unless Airflow has already done so.

    The imported modules alone have so many objects that collection would take a third of a listing's time.
    """
    if gc.get_freeze_count():
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _iterate_tree(origin: S3Tree, reader: ObjectReader) -> Iterator[tuple[str, StoredObject]]:
    for stored in select_objects(origin, reader):
        name = stored.key.removeprefix(origin.prefix)
        if not name or name.endswith("/"):
            continue  # the placeholder that S3 consoles create for a folder
        try:
            parts = split_safely(name)
            if "/".join(parts) != name:
                raise ValueError("it contains the component '.'")  # noqa: TRY301 - the except clause completes it
        except ValueError as error:
            raise DatasetError(
                f"{origin.uri} contains {name!r}, which is not an allowed name: {error}. Rename the object"
            ) from error
        if not is_ignored(parts) and (origin.annotations is None or _is_of_coco(name)):
            yield name, stored


def _is_of_coco(name: str) -> bool:
    """Return whether a file may belong to a COCO dataset; other files are not fetched."""
    return is_image(name) or name.lower().endswith(".json")


@dataclass(frozen=True)
class TreeFetch:
    """Fetches the objects of a listing."""

    listing: Listing
    """The objects to fetch."""
    cache: DatasetCache
    """This machine's cache, which has some of the objects already."""
    reader: ObjectReader
    """Reads the objects."""

    @property
    def uri(self) -> str:
        """The address of the dataset, for messages."""
        return self.listing.origin.uri

    def fill(self, target: Path) -> None:
        """Fetch all objects into the empty folder `target`."""
        listing = target.with_name(_LISTING)
        self.listing.copy_to(listing)
        self._fetch(target, listing, self.listing.count)

    def is_intact(self, content: Path) -> bool:
        """Return whether all objects are in the folder, each with the listed size."""
        return not any(_find_damaged(self.listing, content))

    def repair(self, content: Path) -> None:
        """Fetch the damaged objects again.

        Once all replacements are complete, each file is replaced in one step. A view may have links to the
        damaged files, so all views are marked as outdated.
        """
        damaged, count = content.with_name("damaged.jsonl.gz"), 0
        with write_objects(damaged, self.listing.origin) as write:
            for count, found in enumerate(_find_damaged(self.listing, content), start=1):  # noqa: B007
                write(*found)
        log.warning("Fetching %d damaged files of %s again.", count, self.uri)
        fetched = content.with_name("repair")
        shutil.rmtree(fetched, ignore_errors=True)  # a killed process may have left it
        make_trusted_folder(fetched)
        try:
            self._fetch(fetched, damaged, count)
            mark_outdated(content.parent)
            for name, _ in read_objects(damaged, self.listing.origin):
                (content / name).parent.mkdir(parents=True, exist_ok=True)
                (fetched / name).replace(content / name)
        finally:
            shutil.rmtree(fetched, ignore_errors=True)
            damaged.unlink(missing_ok=True)

    def _fetch(self, target: Path, listing: Path, count: int) -> None:
        """Put the `count` objects named in the file `listing` into `target`; download the missing ones."""
        lacking = target.with_name("lacking.jsonl.gz")
        try:
            found = self._link(target, listing, count, lacking)
            log.info(
                "%s has %s files, of which %s are not on this machine (%s).",
                *(self.uri, f"{count:,}", f"{found.files:,}", in_words(found.size)),
            )
            make_room_for(self.uri, target, self.cache, found.needed)
            if found.files:
                self._download(target, lacking, found.size)
                flush(target)
        finally:
            lacking.unlink(missing_ok=True)

    def _link(self, target: Path, listing: Path, count: int, lacking: Path) -> MissingData:
        paths = str(listing), str(target), str(self.cache.files.folder), str(lacking)
        arguments = asdict(self.listing.origin), count, *paths
        if count < MANY:
            return MissingData(**link_objects(*arguments))
        return MissingData(**run_confined(link_objects, *arguments, PROCESSES, source=self.uri))

    def _download(self, target: Path, lacking: Path, size: int) -> None:
        progress = ProgressLog(f"Fetching {self.uri}", size, "bytes")
        with explain_clash(self.uri, target):
            Downloader(self.reader, progress, self.cache.files).download(
                (stored, target / name) for name, stored in read_objects(lacking, self.listing.origin)
            )


def is_tree_intact(home: Path, origin: S3Tree) -> bool:
    """Return whether the content in a dataset's folder has all objects of its listing, with the listed sizes.

    Returns True if there is no readable listing.
    """
    try:
        return not any(_find_damaged(Listing.read(home / _LISTING, origin), home / "content"))
    except (*DAMAGED, FileNotFoundError):  # content that an earlier release fetched has no listing
        return True


def _find_damaged(listing: Listing, content: Path) -> Iterator[tuple[str, StoredObject]]:
    """Yield the objects that are missing from the folder, or whose size differs from the listing."""
    for name, stored in listing:
        try:
            if os.lstat(f"{content}/{name}").st_size == stored.size:
                continue
        except (FileNotFoundError, NotADirectoryError):
            pass
        yield name, stored

"""Fetches the objects of a dataset under a prefix into the cache, and notices damaged files of any dataset.

    {cache}/{fingerprint}/content/            the fetched files; damaged files are fetched again
    {cache}/{fingerprint}/repair/             replacements for damaged files, until all are complete
    {cache}/{fingerprint}/damaged/            the content of a zip that has just been replaced, being deleted
    {cache}/{fingerprint}/listing.jsonl.gz    names, sizes and ETags of all files
    {cache}/{fingerprint}/damaged.jsonl.gz    the same for the files that are being fetched again
    {cache}/{fingerprint}/lacking.jsonl.gz    the same for the files that are being downloaded

The files are links to those in the store (file_store.py), so only files that this machine lacks are
downloaded.
"""

from __future__ import annotations

import logging
import os
import shutil
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.datasets.caching.download import Downloader
from include.datasets.caching.eviction import make_room_for
from include.datasets.caching.file_store import FileStore, compute_object_key
from include.datasets.caching.listing import DAMAGED, Listing, read_objects, write_objects
from include.datasets.caching.view import mark_outdated
from include.datasets.confinement import run_confined
from include.datasets.disk import flush, round_to_blocks
from include.datasets.errors import DatasetError
from include.datasets.progress import ProgressLog
from include.datasets.shares import BATCH, MANY, PROCESSES, share_out
from include.datasets.sources import S3Tree
from include.datasets.storage import StoredObject
from include.limits import in_words
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from include.datasets.caching.cache import DatasetCache
    from include.datasets.storage import ObjectReader

log = logging.getLogger(__name__)

_LISTING = "listing.jsonl.gz"


@dataclass
class _Missing:
    """How much of a dataset this machine lacks."""

    files: int = 0
    """Number of missing files."""
    size: int = 0
    """Total size of these files in bytes."""
    needed: int = 0
    """Bytes that these files take on the disk."""


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
        """Return whether the listing and all its objects are on this machine, each with the listed size."""
        return is_tree_intact(content.parent, self.listing.origin)

    def repair(self, content: Path) -> None:
        """Restore the listing, and fetch the damaged objects again.

        Once all replacements are complete, each file is replaced in one step. A view may have links to the
        damaged files, so all views are marked as outdated.
        """
        self.listing.copy_to(content.with_name(_LISTING))
        damaged, count = content.with_name("damaged.jsonl.gz"), 0
        with write_objects(damaged, self.listing.origin) as write:
            for count, found in enumerate(_find_damaged(self.listing, content), start=1):  # noqa: B007
                write(*found)
        if not count:
            damaged.unlink()
            return
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

    def _link(self, target: Path, listing: Path, count: int, lacking: Path) -> _Missing:
        paths = str(listing), str(target), str(self.cache.files.folder), str(lacking)
        arguments = asdict(self.listing.origin), count, *paths
        if count < MANY:
            return _Missing(**link_objects(*arguments))
        return _Missing(**run_confined(link_objects, *arguments, PROCESSES, source=self.uri))

    def _download(self, target: Path, lacking: Path, size: int) -> None:
        progress = ProgressLog(f"Fetching {self.uri}", size, "bytes")
        with _explain_clash(self.uri, target):
            Downloader(self.reader, progress, self.cache.files).download(
                (stored, target / name) for name, stored in read_objects(lacking, self.listing.origin)
            )


def is_tree_intact(home: Path, origin: S3Tree) -> bool:
    """Return whether the content in a dataset's folder has all objects of its listing, with the listed sizes.

    Returns False if there is no readable listing: what has removed or damaged it may have done the same to
    the content. Content that an earlier release fetched has no listing, either.
    """
    try:
        return not any(_find_damaged(Listing.read(home / _LISTING, origin), home / "content"))
    except (*DAMAGED, FileNotFoundError):
        return False


def list_content(content: Path, origin: S3Tree) -> None:
    """List the files of a zip or an export beside their folder, as if each were an object of `origin`."""
    with write_objects(content.with_name(_LISTING), origin) as write:
        for parent, _, files in os.walk(content):
            for file in files:
                path = Path(parent, file)
                name = str(path.relative_to(content))
                key = f"{origin.prefix}{name}"
                write(name, StoredObject(origin.bucket, key, path.lstat().st_size, etag=""))


def repair_content(content: Path, origin: S3Tree, fetch: Callable[[Path], None]) -> None:
    """Replace the folder of a zip or an export, some of whose files are damaged.

    `fetch` fetches all files into the given folder, and lists them beside it. The old folder is replaced as a
    whole, because an earlier release may have given its files other names. All views are marked as outdated.
    """
    log.warning("Files of %s are damaged on this machine; fetching it again.", origin.uri.rstrip("/"))
    fetched, damaged = content.with_name("repair"), content.with_name("damaged")
    for folder in (fetched, damaged):
        shutil.rmtree(folder, ignore_errors=True)  # a killed process may have left it
    make_trusted_folder(fetched)
    try:
        fetch(fetched)
        mark_outdated(content.parent)
        content.rename(damaged)
        fetched.rename(content)
    finally:
        shutil.rmtree(fetched, ignore_errors=True)
        shutil.rmtree(damaged, ignore_errors=True)


def _find_damaged(listing: Listing, content: Path) -> Iterator[tuple[str, StoredObject]]:
    """Yield the objects that are missing from the folder, or whose size differs from the listing."""
    for name, stored in listing:
        try:
            if os.lstat(f"{content}/{name}").st_size == stored.size:
                continue
        except (FileNotFoundError, NotADirectoryError):
            pass
        yield name, stored


@dataclass
class _Batch:
    """The result of linking a batch of objects."""

    done: int
    """The number of these objects."""
    lacking: list[tuple[str, StoredObject]]
    """The objects that this machine lacks, with their names."""


def link_objects(
    origin: dict[str, Any],
    count: int,
    listing: str,
    target: str,
    store: str,
    lacking: str,
    processes: int = 1,
) -> dict[str, int]:
    """Link the objects that are in `store` into `target`; return the fields of _Missing.

    The file `listing` names all `count` objects. The objects that this machine lacks are written to the file
    `lacking`. A linked file remains if another dataset that shares it is evicted. With several `processes`,
    the current process must have no other threads, as in a confined process. Raises OSErrors, and
    DatasetError if an object has the same name as a folder of other objects.
    """
    tree = S3Tree(**origin)
    link = partial(_link_batches, tree, Path(listing), target, FileStore(Path(store)))
    progress, total = ProgressLog(f"Linking {tree.uri}", count, "files"), _Missing()
    with _explain_clash(tree.uri, Path(target)), write_objects(Path(lacking), tree) as write:
        for batch in share_out(link, count, processes):
            progress.advance(batch.done)
            for name, stored in batch.lacking:
                write(name, stored)
                total.files += 1
                total.size += stored.size
                total.needed += round_to_blocks(stored.size)
    return asdict(total)


@contextmanager
def _explain_clash(uri: str, target: Path) -> Iterator[None]:
    """Raise DatasetError for an object whose name is also a folder of other objects."""
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        name = str(error.filename2 or error.filename).removeprefix(f"{target}{os.sep}")
        raise DatasetError(
            f"{uri} contains an object whose name is also a folder of other objects: {name}. Rename that "
            "object"
        ) from error


def _link_batches(
    origin: S3Tree, listing: Path, target: str, store: FileStore, numbers: range
) -> Iterator[_Batch]:
    """Link the objects with these numbers."""
    folders: set[str] = set()
    batch = _Batch(0, [])
    for name, stored in read_objects(listing, origin, numbers):
        folder = name.rpartition("/")[0]
        if folder not in folders:
            Path(target, folder).mkdir(parents=True, exist_ok=True)
            folders.add(folder)
        if not store.link(compute_object_key(stored), stored.size, f"{target}/{name}"):
            batch.lacking.append((name, stored))
        batch.done += 1
        if batch.done >= BATCH:
            yield batch
            batch = _Batch(0, [])
    yield batch

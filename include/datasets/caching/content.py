"""Finds datasets in S3, and fetches them into the cache: one folder per fingerprint, see cache.py.

    {cache}/{fingerprint}/content/            the fetched files, never modified
    {cache}/{fingerprint}/listing.jsonl.gz    their names and sizes, if they were fetched from a prefix

A folder appears under its name only once it is complete. One process at a time fills a fingerprint's folder.
The kernel drops the lock of a process that dies, so unfinished content in an unlocked folder is removed.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets.caching.archive import measure_fetched, unpack_fetched
from include.datasets.caching.disk import flush, require_room, round_to_blocks, translate_disk_errors
from include.datasets.caching.download import Downloader
from include.datasets.caching.eviction import make_room
from include.datasets.caching.file_store import object_key
from include.datasets.caching.listing import DAMAGED, Listing
from include.datasets.caching.selection import select_objects
from include.datasets.confinement import run_confined
from include.datasets.errors import DatasetChanged, DatasetError
from include.datasets.fingerprint import export_fingerprint, zip_fingerprint
from include.datasets.layouts.names import is_ignored, safe_parts
from include.datasets.layouts.samples import is_image
from include.datasets.progress import Progress
from include.datasets.sources import S3Export, S3Tree, S3Zip
from include.limits import PREFIX_OBJECTS, in_words
from include.trusted_folders import make_trusted_folder, require_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.datasets.caching.cache import DatasetCache
    from include.datasets.storage import Listings, ObjectReader, StoredObject

log = logging.getLogger(__name__)

_LISTING = "listing.jsonl.gz"

EXPORT_NAME = "export.ndjson"
"""What an .ndjson file is called in the cache."""


@dataclass(frozen=True)
class Remote:
    """A dataset in S3 that this machine can fetch."""

    uri: str
    """Its address, for messages."""
    fingerprint: str
    """Identifies its content."""
    fill: Callable[[Path], None]
    """Fetches everything into an empty folder."""
    is_intact: Callable[[Path], bool]
    """Returns whether a folder that was filled before is still complete, as far as the files' sizes show."""
    repair: Callable[[Path], None]
    """Fetches again what is missing or damaged in such a folder."""


def find_zip(origin: S3Zip, cache: DatasetCache, reader: ObjectReader, expected: str | None = None) -> Remote:
    """Find a zip file. Raises DatasetChanged unless its fingerprint is `expected`."""
    stored = reader.stat(origin.bucket, origin.key)
    fingerprint = zip_fingerprint(stored)
    require_expected(fingerprint, expected, stored.uri)

    def fill(target: Path) -> None:
        archive, uri = target.with_suffix(".zip"), stored.uri
        _make_room(cache, target, stored.size, uri)
        Downloader(reader, Progress(f"Fetching {uri}", stored.size, "bytes")).download([(stored, archive)])
        _make_room(cache, target, run_confined(measure_fetched, str(archive), uri, source=uri), uri)
        run_confined(unpack_fetched, str(archive), str(target), uri, str(cache.files.folder), source=uri)
        archive.unlink()
        flush(target)

    return Remote(stored.uri, fingerprint, fill, lambda _: True, fill)


def find_export(
    origin: S3Export, cache: DatasetCache, reader: ObjectReader, expected: str | None = None
) -> Remote:
    """Find an .ndjson file. Raises DatasetChanged unless its fingerprint is `expected`."""
    stored = reader.stat(origin.bucket, origin.key)
    fingerprint = export_fingerprint(stored)
    require_expected(fingerprint, expected, stored.uri)

    def fill(target: Path) -> None:
        _make_room(cache, target, stored.size, stored.uri)
        progress = Progress(f"Fetching {stored.uri}", stored.size, "bytes")
        Downloader(reader, progress).download([(stored, target / EXPORT_NAME)])
        flush(target)

    return Remote(stored.uri, fingerprint, fill, lambda _: True, fill)


def find_tree(
    origin: S3Tree,
    cache: DatasetCache,
    reader: ObjectReader,
    listings: Listings | None = None,
    expected: str | None = None,
) -> Remote:
    """Find the objects of a dataset below a prefix.

    Without `expected`, these are the current objects, whose listing is saved. With it, they are the objects
    of the saved listing, whatever has been added since; fetching raises DatasetChanged, naming the object, if
    one of them was replaced or deleted.
    """
    uri = f"s3://{origin.bucket}/{origin.prefix}"
    listing = _select_listing(origin, reader, listings, expected, uri)
    fetch = _Fetch(listing, cache, reader, uri)
    return Remote(uri, listing.fingerprint, fetch.fill, fetch.is_intact, fetch.repair)


def _select_listing(
    origin: S3Tree, reader: ObjectReader, listings: Listings | None, expected: str | None, uri: str
) -> Listing:
    """Return the objects to fetch."""
    if expected is not None and listings is not None:
        checked = listings.load(expected, origin)
        if checked is not None:
            return checked
        log.warning(
            "No listing of %s was stored when it was checked; fetching fails if anything under it has "
            "changed.",
            uri,
        )
    listing = _list_tree(origin, reader, uri)
    require_expected(listing.fingerprint, expected, uri)
    if listings is not None:
        listings.save(listing)
    return listing


@dataclass(frozen=True)
class _Fetch:
    """Fetches the objects of a listing."""

    listing: Listing
    cache: DatasetCache
    reader: ObjectReader
    uri: str

    def fill(self, target: Path) -> None:
        """Fetch all objects into the empty folder `target`."""
        self.listing.copy_to(target.with_name(_LISTING))
        self._fetch(target, lambda: iter(self.listing))

    def is_intact(self, content: Path) -> bool:
        """Return whether all objects are in the folder, with their sizes."""
        return next(find_damaged(self.listing, content), None) is None

    def repair(self, content: Path) -> None:
        """Fetch the damaged objects again."""
        damaged = {name for name, _ in find_damaged(self.listing, content)}
        log.warning("Fetching %d damaged files of %s again.", len(damaged), self.uri)
        for name in damaged:
            (content / name).unlink(missing_ok=True)
        self._fetch(content, lambda: (each for each in self.listing if each[0] in damaged))

    def _fetch(self, target: Path, objects: Callable[[], Iterator[tuple[str, StoredObject]]]) -> None:
        try:
            missing, size = self._link(target, objects())
            if missing:
                self._download(target, objects(), size)
                flush(target)
        except (FileExistsError, NotADirectoryError) as error:
            raise DatasetError(
                f"{self.uri} contains an object whose name is also a folder of other objects: "
                f"{error.filename}"
            ) from error

    def _link(self, target: Path, objects: Iterator[tuple[str, StoredObject]]) -> tuple[int, int]:
        """Link what this machine has, and make room for the rest; return its number and its size in bytes.

        A link protects a file: what another dataset shares with this one is not evicted with that.
        """
        store, missing, size, needed = self.cache.files, 0, 0, 0
        progress = Progress(f"Linking {self.uri}", self.listing.count, "files")
        folders: set[str] = set()
        for name, stored in objects:
            path, folder = target / name, name.rpartition("/")[0]
            if folder not in folders:
                path.parent.mkdir(parents=True, exist_ok=True)
                folders.add(folder)
            if not store.link(object_key(stored), stored.size, path):
                missing, size = missing + 1, size + stored.size
                needed += round_to_blocks(stored.size)
            progress.advance()
        log.info(
            "%s has %s files, of which %s are not on this machine (%s).",
            *(self.uri, f"{self.listing.count:,}", f"{missing:,}", in_words(size)),
        )
        _make_room(self.cache, target, needed, self.uri)
        return missing, size

    def _download(self, target: Path, objects: Iterator[tuple[str, StoredObject]], size: int) -> None:
        """Download what was not linked."""
        progress = Progress(f"Fetching {self.uri}", size, "bytes")
        wanted = ((stored, target / name) for name, stored in objects)
        Downloader(self.reader, progress, self.cache.files).download(
            (stored, path) for stored, path in wanted if not path.is_file()
        )


def find_damaged(listing: Listing, content: Path) -> Iterator[tuple[str, StoredObject]]:
    """Yield the objects that are missing in the folder, or have another size than in the listing."""
    for name, stored in listing:
        try:
            if os.lstat(content / name).st_size == stored.size:
                continue
        except (FileNotFoundError, NotADirectoryError):
            pass
        yield name, stored


def is_intact(home: Path, origin: S3Zip | S3Export | S3Tree) -> bool:
    """Return whether the content in a dataset's folder is complete, as far as its files' sizes show."""
    content = home / "content"
    if not is_complete(content):
        return False
    try:
        if not isinstance(origin, S3Tree):
            return True
        return next(find_damaged(Listing.read(home / _LISTING, origin), content), None) is None
    except (*DAMAGED, FileNotFoundError):  # content that an older version fetched has no listing
        return True


def _make_room(cache: DatasetCache, target: Path, needed: int, uri: str) -> None:
    make_room(cache, needed)
    require_room(target, needed, uri)


def stored_fingerprint(origin: S3Zip | S3Export | S3Tree, reader: ObjectReader) -> str:
    """Return the fingerprint of the current objects in S3, without fetching them.

    The content has the same fingerprint once it is fetched. Raises DatasetError if there are no objects.
    """
    match origin:
        case S3Zip():
            return zip_fingerprint(reader.stat(origin.bucket, origin.key))
        case S3Export():
            return export_fingerprint(reader.stat(origin.bucket, origin.key))
    return _list_tree(origin, reader, f"s3://{origin.bucket}/{origin.prefix}").fingerprint


def _list_tree(origin: S3Tree, reader: ObjectReader, uri: str) -> Listing:
    """List the objects of the dataset, named relative to the prefix."""
    listing = Listing.write(origin, itertools.islice(_iterate_tree(origin, reader, uri), PREFIX_OBJECTS + 1))
    if listing.count > PREFIX_OBJECTS:
        raise DatasetError(
            f"{uri} contains more than {PREFIX_OBJECTS:,} objects, which is the limit; give a prefix with "
            "fewer"
        )
    if not listing.count:
        raise DatasetError(
            f"There are no objects at {uri}; check the bucket and the prefix, or upload the data there"
        )
    return listing


def _iterate_tree(origin: S3Tree, reader: ObjectReader, uri: str) -> Iterator[tuple[str, StoredObject]]:
    for stored in select_objects(origin, reader, uri):
        name = stored.key.removeprefix(origin.prefix)
        if not name or name.endswith("/"):
            continue  # the placeholder that S3 consoles create for a folder
        try:
            parts = safe_parts(name)
            if "/".join(parts) != name:
                raise ValueError("it contains the component '.'")  # noqa: TRY301  one sentence for all
        except ValueError as error:
            raise DatasetError(
                f"{uri} contains {name!r}, which is not an allowed name: {error}. Rename the object"
            ) from error
        if not is_ignored(parts) and (origin.annotations is None or _is_of_coco(name)):
            yield name, stored


def _is_of_coco(name: str) -> bool:
    """Return whether a file may belong to a COCO dataset; whatever else lies beside it is not fetched."""
    return is_image(name) or name.lower().endswith(".json")


def require_expected(fingerprint: str, expected: str | None, source: str) -> None:
    """Raise DatasetChanged unless `fingerprint` is the one that was checked."""
    if expected is not None and fingerprint != expected:
        raise DatasetChanged(
            f"{source} is no longer what check_dataset saw (then {expected[:12]}, now {fingerprint[:12]}). "
            "Restore it, or start over with the current content: clear check_dataset, or, if the job has a "
            "durable state, trigger it with fresh=true"
        )


def is_complete(folder: Path) -> bool:
    """Return whether the folder is in the cache. Raises UntrustedFolder if another account owns it."""
    if not folder.is_dir():
        return False
    require_trusted_folder(folder)
    return True


def ensure_folder(
    home: Path,
    name: str,
    fill: Callable[[Path], None],
    source: str,
    is_intact: Callable[[Path], bool] = lambda _: True,
    repair: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Return the folder `home`/`name`, creating it with `fill` if it does not exist.

    One that exists but is not intact is repaired. The caller uses the dataset, see DatasetCache.use.

    Several processes may call this at once; a killed process leaves no folder of that name behind. Raises
    UntrustedFolder if another account of this machine could have prepared it.
    """
    target, partial = home / name, home / f"{name}.partial"
    with translate_disk_errors(home, source):
        make_trusted_folder(home)
        if is_complete(target) and is_intact(target):
            return target
        with _lock(home / "lock", source):
            if is_complete(target):
                if not is_intact(target):
                    repair(target)
                return target
            shutil.rmtree(partial, ignore_errors=True)
            partial.with_suffix(".zip").unlink(missing_ok=True)
            make_trusted_folder(partial)
            try:
                fill(partial)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
                partial.with_suffix(".zip").unlink(missing_ok=True)
    return target


@contextmanager
def _lock(file: Path, source: str) -> Iterator[None]:
    with file.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("Another process is fetching %s; waiting for it.", source)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

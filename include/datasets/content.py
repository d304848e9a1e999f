"""The cache of fetched data on this machine: one folder per fingerprint.

    {cache}/{fingerprint}/content/    the fetched files, never modified
    {cache}/{fingerprint}/view-*/     the folder that Ultralytics is given, see view.py

A folder appears under its name only once it is complete. One process at a time fills a fingerprint's folder.
The kernel drops the lock of a process that dies, so unfinished content in an unlocked folder is removed.
"""

from __future__ import annotations

import fcntl
import itertools
import logging
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.datasets.archive import unpack_fetched
from include.datasets.confinement import run_confined
from include.datasets.disk import require_room, translate_disk_errors
from include.datasets.download import download
from include.datasets.errors import DatasetChanged, DatasetError
from include.datasets.fingerprint import tree_fingerprint, zip_fingerprint
from include.datasets.names import is_ignored, safe_parts
from include.datasets.sources import S3Zip
from include.limits import PREFIX_OBJECTS
from include.trusted_folders import make_trusted_folder, require_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.datasets.sources import S3Tree
    from include.datasets.storage import Listings, NamedObjects, ObjectReader, StoredObject

log = logging.getLogger(__name__)


def fetch_zip(
    origin: S3Zip, cache: Path, reader: ObjectReader, expected: str | None = None
) -> tuple[Path, str]:
    """Fetch and unpack a zip file, and return its folder and fingerprint.

    Raises DatasetChanged unless its fingerprint is `expected`.
    """
    stored = reader.stat(origin.bucket, origin.key)
    fingerprint = zip_fingerprint(stored)
    require_expected(fingerprint, expected, stored.uri)

    def fill(target: Path) -> None:
        archive = target.with_suffix(".zip")
        require_room(target, stored.size, stored.uri)
        download(reader, [(stored, archive)], stored.uri)
        run_confined(unpack_fetched, str(archive), str(target), stored.uri, source=stored.uri)
        archive.unlink()

    return ensure_folder(cache / fingerprint, "content", fill, stored.uri), fingerprint


def fetch_tree(
    origin: S3Tree,
    cache: Path,
    reader: ObjectReader,
    listings: Listings | None = None,
    expected: str | None = None,
) -> tuple[Path, str]:
    """Fetch the objects under a prefix, and return their folder and fingerprint.

    Without `expected`, fetch the current objects and save their listing. With it, fetch the objects of the
    saved listing, whatever has been added since; raise DatasetChanged, naming the object, if one of them was
    replaced or deleted.
    """
    uri = f"s3://{origin.bucket}/{origin.prefix}"
    objects, fingerprint = _select_objects(origin, reader, listings, expected, uri)

    def fill(target: Path) -> None:
        require_room(target, sum(stored.size for _, stored in objects), uri)
        try:
            download(reader, [(stored, target / name) for name, stored in objects], uri)
        except (FileExistsError, NotADirectoryError) as error:
            raise DatasetError(
                f"{uri} contains an object whose name is also a folder of other objects: {error.filename}"
            ) from error

    return ensure_folder(cache / fingerprint, "content", fill, uri), fingerprint


def _select_objects(
    origin: S3Tree, reader: ObjectReader, listings: Listings | None, expected: str | None, uri: str
) -> tuple[NamedObjects, str]:
    """Return the objects to fetch, and their fingerprint."""
    if expected is not None and listings is not None:
        checked = listings.load(expected, origin)
        if checked is not None:
            return checked, expected
        log.warning(
            "No listing of %s was stored when it was checked; fetching fails if anything under it has "
            "changed.",
            uri,
        )
    objects, fingerprint = _list_tree(origin, reader, uri)
    require_expected(fingerprint, expected, uri)
    if listings is not None:
        listings.save(fingerprint, objects, origin.yaml)
    return objects, fingerprint


def stored_fingerprint(origin: S3Zip | S3Tree, reader: ObjectReader) -> str:
    """Return the fingerprint of the current objects in S3, without fetching them.

    The content has the same fingerprint once it is fetched. Raises DatasetError if there are no objects.
    """
    if isinstance(origin, S3Zip):
        return zip_fingerprint(reader.stat(origin.bucket, origin.key))
    return _list_tree(origin, reader, f"s3://{origin.bucket}/{origin.prefix}")[1]


def _list_tree(origin: S3Tree, reader: ObjectReader, uri: str) -> tuple[NamedObjects, str]:
    """Return the objects under the prefix, named relative to it, and their fingerprint."""
    objects = list(itertools.islice(_iterate_tree(origin, reader, uri), PREFIX_OBJECTS + 1))
    if len(objects) > PREFIX_OBJECTS:
        raise DatasetError(
            f"{uri} contains more than {PREFIX_OBJECTS:,} objects, which is the limit; give a prefix with "
            "fewer"
        )
    if not objects:
        raise DatasetError(
            f"There are no objects at {uri}; check the bucket and the prefix, or upload the data there"
        )
    if origin.yaml and origin.yaml not in {name for name, _ in objects}:
        raise DatasetError(f"{uri}{origin.yaml} does not exist; check the key, or upload the data there")
    return objects, tree_fingerprint(objects, origin.yaml)


def _iterate_tree(origin: S3Tree, reader: ObjectReader, uri: str) -> Iterator[tuple[str, StoredObject]]:
    for stored in reader.list(origin.bucket, origin.prefix):
        name = stored.key.removeprefix(origin.prefix)
        if not name or name.endswith("/"):
            continue  # the placeholder that S3 consoles create for a folder
        try:
            parts = safe_parts(name)
        except ValueError as error:
            raise DatasetError(
                f"{uri} contains {name!r}, which is not an allowed name: {error}. Rename the object"
            ) from error
        if not is_ignored(parts):
            yield "/".join(parts), stored


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


def ensure_folder(home: Path, name: str, fill: Callable[[Path], None], source: str) -> Path:
    """Return the folder `home`/`name`, creating it with `fill` if it does not exist.

    Several processes may call this at once; a killed process leaves no folder of that name behind. Raises
    UntrustedFolder if another account of this machine could have prepared it.
    """
    target, partial = home / name, home / f"{name}.partial"
    with translate_disk_errors(home, source):
        make_trusted_folder(home)
        if is_complete(target):
            return target
        with _lock(home / "lock", source):
            if is_complete(target):
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

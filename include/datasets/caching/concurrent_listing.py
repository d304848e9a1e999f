"""Lists the objects under a prefix, several folders at once.

S3 returns 1,000 keys per request, and each request needs the last key of the one before. For two million
objects that takes minutes, during which nothing else can begin. Folders are independent of each other, so
they are listed in parallel. The objects of each folder wait in a file until it is their turn, so millions
of them take no more memory than a few.
"""

from __future__ import annotations

import heapq
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetError
from include.datasets.storage import StoredObject
from include.limits import FOLDER_DEPTH, PREFIX_OBJECTS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from include.datasets.storage import ObjectReader

_PAGE = 1000
"""Number of objects that S3 returns per request; for no more than that, folders are not listed separately."""

_FOLDERS = 8
"""Number of folders that are listed at once."""


def list_objects(reader: ObjectReader, bucket: str, prefix: str) -> Iterator[StoredObject]:
    """Yield the objects whose keys start with `prefix`, in the order of their keys.

    Raises what `reader` raises, and DatasetError for more than PREFIX_OBJECTS of them, or if the folders are
    nested too deeply.
    """
    first = list(islice(reader.list(bucket, prefix), _PAGE + 1))
    if len(first) <= _PAGE:
        yield from sorted(first, key=_key)
        return
    with _start_listing(reader, bucket, prefix) as folders:
        yield from folders.walk()


@contextmanager
def _start_listing(reader: ObjectReader, bucket: str, prefix: str) -> Iterator[_Folders]:
    with TemporaryDirectory() as work, ThreadPoolExecutor(_FOLDERS) as pool:
        folders = _Folders(reader, bucket, prefix, Path(work), pool)
        folders.start(prefix)
        try:
            yield folders
        finally:
            folders.abandoned.set()
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class _Folder:
    """What is directly in a folder: its objects, and the folders in it."""

    objects: Path
    """A file with one line of JSON for each object."""
    folders: list[str]
    """The prefixes of the folders in it."""


@dataclass
class _Folders:
    """All folders under a prefix, whether listed already or not yet."""

    reader: ObjectReader
    bucket: str
    prefix: str
    work: Path
    pool: ThreadPoolExecutor
    abandoned: threading.Event = field(default_factory=threading.Event)
    """Set when the caller has stopped iterating, so that folders that remain need not be listed."""
    _listed: dict[str, Future[_Folder]] = field(default_factory=dict)
    _number: count[int] = field(default_factory=count)
    _objects: count[int] = field(default_factory=lambda: count(1))

    def start(self, prefix: str) -> None:
        """Start listing a folder and all folders in it."""
        self._listed[prefix] = self.pool.submit(self._list, prefix)

    def walk(self) -> Iterator[StoredObject]:
        """Yield all objects in the order of their keys."""
        open_folders = [self._read(self.prefix)]
        while open_folders:
            found = next(open_folders[-1], None)
            if found is None:
                open_folders.pop()
            elif isinstance(found, str):
                open_folders.append(self._read(found))
            else:
                yield found

    def _list(self, prefix: str) -> _Folder:
        folder = _Folder(self.work / str(next(self._number)), [])
        self._require_flat(prefix)
        with folder.objects.open("w", encoding="ascii") as file:
            for found in self.reader.list_level(self.bucket, prefix):
                if self.abandoned.is_set():
                    break
                if isinstance(found, str):
                    if found not in folder.folders[-1:]:
                        folder.folders.append(found)
                        self.start(found)
                    continue
                if next(self._objects) > PREFIX_OBJECTS:
                    raise DatasetError(
                        f"s3://{self.bucket}/{self.prefix} contains more than {PREFIX_OBJECTS:,} objects, "
                        "which is the limit; give a prefix with fewer"
                    )
                file.write(json.dumps([found.key, found.size, found.etag]) + "\n")
        return folder

    def _require_flat(self, prefix: str) -> None:
        if prefix.removeprefix(self.prefix).count("/") > FOLDER_DEPTH:
            raise DatasetError(
                f"s3://{self.bucket}/{prefix} is nested more than {FOLDER_DEPTH} folders deep; move its "
                "objects up"
            )

    def _read(self, prefix: str) -> Iterator[StoredObject | str]:
        """Yield the objects and folders in a folder, in the order of their keys."""
        folder = self._listed.pop(prefix).result()
        with folder.objects.open(encoding="ascii") as file:
            objects: Iterator[StoredObject | str] = (
                StoredObject(self.bucket, *json.loads(line)) for line in file
            )
            # Some servers order folders by their names without the slash.
            yield from heapq.merge(objects, sorted(folder.folders), key=_key)
        folder.objects.unlink()


def _key(found: StoredObject | str) -> str:
    return found if isinstance(found, str) else found.key

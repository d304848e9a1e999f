"""Remembers the check results of fetched files, so that a dataset with one new image is checked in seconds.

Reading every image and its labels is most of the work of a check. The key of a result consists of the inode
and size of the file in the cache, the time of its last change, the rules that it was checked against, and the
versions of the decoders. Fetched files never change, and datasets that contain the same file share one copy
of it. Only files without an error are remembered. If this database is lost, or cannot be written, only time
is lost.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import threading
from contextlib import contextmanager, suppress
from copy import copy
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from include.datasets.checking.images import ImageFacts, is_too_long_to_repair, read_image
from include.datasets.checking.label_lines import CheckedLabels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from include.datasets.checking.images import ImageRules

log = logging.getLogger(__name__)

_VERSION = 2
"""Increase this if a change to the code may change the result for a file."""

_SCHEMA = "CREATE TABLE IF NOT EXISTS files (key BLOB PRIMARY KEY, found BLOB NOT NULL) WITHOUT ROWID"
_BATCH = 5_000
_MOST = 10_000_000
"""If the database has more files than this (about a gigabyte), all entries are deleted."""

_SECONDS = 5.0
"""How long to wait for another process that is writing."""

_describe = cache(repr)

_IMAGE, _LABELS = TypeAdapter(ImageFacts), TypeAdapter(CheckedLabels)

T = TypeVar("T")


class NotKnown(Exception):
    """The result of an earlier check of the file is not stored."""


class KnownFiles:
    """The files that have passed a check on this machine. Safe to use from several threads."""

    def __init__(self, database: sqlite3.Connection | None = None) -> None:
        import cv2
        import PIL

        self._database, self._may_read = database, True
        self._lock = threading.Lock()
        self._new: dict[bytes, bytes] = {}
        self._reader = f"{_VERSION} {PIL.__version__} {cv2.__version__}"

    def read_image(self, path: Path, name: str, rules: ImageRules) -> ImageFacts:
        """Return the result of `images.read_image`, without reading a known image again.

        Raises UnusableImage, and OSErrors after which a retry may succeed.
        """
        how = f"image {name.rpartition('.')[2].lower()} {_describe(rules)}"
        if is_too_long_to_repair(name):
            how += " with a long name"
        return self._recall(path, how, _IMAGE, lambda: read_image(path, name, rules))

    def read_labels(self, path: Path, how: str, read: Callable[[], CheckedLabels]) -> CheckedLabels:
        """Return the result of `read`, which is not called for known labels.

        `how` contains everything, besides the file's content, that the result depends on: the rules and the
        image's size. Raises the errors of `read`.
        """
        return self._recall(path, f"labels {how}", _LABELS, read, lambda found: not found.problems)

    @cached_property
    def without_reading(self) -> KnownFiles:
        """The same files, but with methods that raise NotKnown instead of reading an unknown file."""
        same = copy(self)
        same._may_read = False
        return same

    def save(self) -> None:
        """Write the results for the files that were read since the last call."""
        with self._lock:
            self._write()

    def _recall(
        self,
        path: Path,
        how: str,
        form: TypeAdapter[T],
        read: Callable[[], T],
        is_good: Callable[[T], bool] = lambda _: True,
    ) -> T:
        key = self._compute_key(path, how) if self._database is not None else None
        with suppress(ValidationError):  # written by an earlier release
            if key is not None and (known := self._find(key)) is not None:
                return form.validate_json(known)
        if not self._may_read:
            raise NotKnown(path)
        found = read()
        if key is not None and is_good(found):
            self._add(key, form.dump_json(found))
        return found

    def _compute_key(self, path: Path, how: str) -> bytes | None:
        try:
            found = os.stat(path)  # noqa: PTH116 - faster for a million files
        except OSError:
            return None
        text = f"{found.st_ino} {found.st_size} {found.st_mtime_ns} {how} {self._reader}"
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=20).digest()

    def _find(self, key: bytes) -> Any:
        if self._database is None:
            return None
        with self._lock, suppress(sqlite3.Error):
            row = self._database.execute("SELECT found FROM files WHERE key = ?", (key,)).fetchone()
            return row and row[0]
        return None

    def _add(self, key: bytes, found: bytes) -> None:
        with self._lock:
            self._new[key] = found
            if len(self._new) >= _BATCH:
                self._write()

    def _write(self) -> None:
        if self._database is None or not self._new:
            return
        rows = list(self._new.items())
        self._new.clear()
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO files VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            log.warning(
                "The results for %d files could not be saved, so the next check on this machine will read "
                "these files again: %s",
                *(len(rows), error),
            )


@contextmanager
def open_known_files(file: Path | None) -> Iterator[KnownFiles]:
    """Open the database `file`, and save new results when the context ends.

    If `file` is None or cannot be used, nothing is remembered.
    """
    database = None
    if file is not None:
        try:
            database = _open(file)
        except sqlite3.Error as error:
            log.warning("%s cannot be used, so all files are read: %s", file, error)
            if not isinstance(error, sqlite3.OperationalError):  # it is damaged, not only locked
                file.unlink(missing_ok=True)
    known = KnownFiles(database)
    try:
        yield known
    finally:
        known.save()
        if database is not None:
            database.close()


def _open(file: Path) -> sqlite3.Connection:
    # The lock of KnownFiles ensures that only one thread at a time uses the connection.
    database = sqlite3.connect(file, timeout=_SECONDS, check_same_thread=False)
    with database:
        database.execute(_SCHEMA)
        (count,) = database.execute("SELECT count(*) FROM files").fetchone()
        if count > _MOST:
            database.execute("DELETE FROM files")
    return database

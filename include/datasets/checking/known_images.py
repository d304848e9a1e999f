"""Remembers which fetched images passed a check, so that a dataset with one new image is checked in seconds.

Decoding every image is most of the work of a check. An image in the cache is known by its inode, its size,
the time of its last change, and by how it was read; fetched files never change, and all datasets that contain
them share them. Only good images are remembered. Losing this file, or failing to write it, costs time only.
"""

from __future__ import annotations

import hashlib
import logging
import sqlite3
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from include.datasets.checking.images import ImageFacts, read_image

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from include.datasets.checking.images import ImageRules

log = logging.getLogger(__name__)

_VERSION = 1
"""Increase it when the same image may be judged differently. The decoders' versions count by themselves."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS images (
    key BLOB PRIMARY KEY,
    sha256 BLOB NOT NULL,
    width INTEGER NOT NULL,
    height INTEGER NOT NULL
) WITHOUT ROWID
"""
_BATCH = 5_000
_MOST = 5_000_000
"""Number of images after which all are forgotten: 500 MB."""

_SECONDS = 5.0
"""How long to wait for another process that writes."""


class KnownImages:
    """The images that passed a check on this machine. Safe to use from several threads."""

    def __init__(self, database: sqlite3.Connection | None) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._new: dict[bytes, ImageFacts] = {}
        self._reader = f"{_VERSION} {_decoders()}"

    def read(self, path: Path, name: str, rules: ImageRules) -> ImageFacts:
        """Return what `read_image` does, without reading an image that is known. Raises UnusableImage."""
        if self._database is None:
            return read_image(path, name, rules)
        key = self._key(path, name, rules)
        facts = self._find(key)
        if facts is None:
            facts = read_image(path, name, rules)
            self._add(key, facts)
        return facts

    def save(self) -> None:
        """Write down the images that were read since the last time."""
        with self._lock:
            self._write()

    def _key(self, path: Path, name: str, rules: ImageRules) -> bytes | None:
        try:
            found = path.stat()
        except OSError:
            return None
        described = f"{found.st_ino} {found.st_size} {found.st_mtime_ns}"
        suffix = name.rpartition(".")[2].lower()
        text = f"{described} {suffix} {rules} {self._reader}"
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=20).digest()

    def _find(self, key: bytes | None) -> ImageFacts | None:
        if key is None or self._database is None:
            return None
        with self._lock, suppress(sqlite3.Error):
            row = self._database.execute(
                "SELECT sha256, width, height FROM images WHERE key = ?", (key,)
            ).fetchone()
            if row is not None:
                return ImageFacts(row[0].hex(), row[1], row[2])
        return None

    def _add(self, key: bytes | None, facts: ImageFacts) -> None:
        if key is None:
            return
        with self._lock:
            self._new[key] = facts
            if len(self._new) >= _BATCH:
                self._write()

    def _write(self) -> None:
        if self._database is None or not self._new:
            return
        rows = [
            (key, bytes.fromhex(facts.sha256), facts.width, facts.height) for key, facts in self._new.items()
        ]
        self._new.clear()
        try:
            with self._database:
                self._database.executemany("INSERT OR REPLACE INTO images VALUES (?, ?, ?, ?)", rows)
        except sqlite3.Error as error:
            log.warning("The next check on this machine will read all images again: %s", error)


@contextmanager
def known_images(file: Path | None) -> Iterator[KnownImages]:
    """Open the memory in `file`, and save what was added when the context ends; None remembers nothing."""
    database = None
    if file is not None:
        try:
            database = _open(file)
        except sqlite3.Error as error:
            log.warning("%s cannot be used, so all images are read: %s", file, error)
            if not isinstance(error, sqlite3.OperationalError):  # it is damaged, not only locked
                file.unlink(missing_ok=True)
    known = KnownImages(database)
    try:
        yield known
    finally:
        known.save()
        if database is not None:
            database.close()


def _open(file: Path) -> sqlite3.Connection:
    # The lock of KnownImages keeps threads apart.
    database = sqlite3.connect(file, timeout=_SECONDS, check_same_thread=False)
    with database:
        database.execute(_SCHEMA)
        (known,) = database.execute("SELECT count(*) FROM images").fetchone()
        if known > _MOST:
            database.execute("DELETE FROM images")
    return database


def _decoders() -> str:
    import cv2
    import PIL

    return f"{PIL.__version__} {cv2.__version__}"

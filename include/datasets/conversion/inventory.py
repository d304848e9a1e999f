"""The files of a converted dataset with their hashes, kept on disk because there may be millions."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from include.blocks import read_blocks
from include.datasets.errors import DatasetError
from include.datasets.parallel import map_in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Entry:
    """A file of the dataset."""

    name: str
    """Relative to the dataset."""
    path: Path
    """Path of the file on this machine."""
    size: int
    """In bytes."""
    md5: str
    """Hexadecimal MD5 of the file; the ETag of its object, unless the bucket encrypts with SSE-KMS."""
    sha256: str
    """Hexadecimal SHA-256 of the file."""
    etag: str | None
    """ETag of the object in S3, without quotes; None until the file is stored."""


class Inventory:
    """All files of one dataset, in the order of their names, which is also the order of keys in S3."""

    def __init__(self, file: Path) -> None:
        file.unlink(missing_ok=True)
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE files (name TEXT PRIMARY KEY, path TEXT, size INTEGER, md5 TEXT, sha256 TEXT, "
            "etag TEXT) WITHOUT ROWID"
        )

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def add_all(self, files: Iterable[tuple[str, Path]]) -> None:
        """Read the files, given as (name, path), and add them."""
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO files VALUES (?, ?, ?, ?, ?, NULL)", map_in_order(_hash, files)
        )
        self._database.execute("COMMIT")

    def set_etag(self, name: str, etag: str) -> None:
        """Record that a file is stored, and the ETag of its object."""
        self._database.execute("UPDATE files SET etag = ? WHERE name = ?", (etag, name))

    def recognize(self, name: str, etag: str) -> None:
        """Record the file as stored if `etag`, the ETag of the object with that name, is the file's MD5."""
        self._database.execute("UPDATE files SET etag = md5 WHERE name = ? AND md5 = ?", (name, etag))

    def __iter__(self) -> Iterator[Entry]:
        last = ""
        while page := self._database.execute(
            "SELECT * FROM files WHERE name > ? ORDER BY name LIMIT ?", (last, _PAGE)
        ).fetchall():
            for name, path, *rest in page:
                yield Entry(name, Path(path), *rest)
            last = page[-1][0]


def _hash(file: tuple[str, Path]) -> tuple[str, str, int, str, str]:
    name, path = file
    size, md5, sha256 = 0, hashlib.md5(usedforsecurity=False), hashlib.sha256()
    try:
        with path.open("rb") as opened:
            for block in read_blocks(opened):
                size += len(block)
                md5.update(block)
                sha256.update(block)
    except (FileNotFoundError, PermissionError) as error:
        raise DatasetError(f"{name} cannot be read: {error}; allow the worker to read it") from error
    return name, str(path), size, md5.hexdigest(), sha256.hexdigest()

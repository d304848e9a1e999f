"""Read objects from a folder, so that no S3 server takes processor time from the measured steps."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.storage import StoredObject
from include.s3.listing import PAGE_SIZE

if TYPE_CHECKING:
    from include.datasets.storage import Page


@dataclass(frozen=True)
class FolderObjects:
    """An ObjectReader for the files of a folder.

    ETags are hashes of names and modification times, which are fast to compute.
    """

    folder: Path

    def open(self) -> tuple[FolderObjects, None]:
        """Return a reader of the objects; listings are not stored."""
        return self, None

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose keys start with `prefix`, which ends in a slash, ordered by key."""
        for found in chain.from_iterable(self.list_level(bucket, prefix)):
            if isinstance(found, str):
                yield from self.list(bucket, found)
            else:
                yield found

    def list_level(self, bucket: str, prefix: str, after: str = "") -> Iterator[Page]:
        """List the objects and prefixes directly below `prefix` whose keys come after `after`."""
        with os.scandir(self.folder / prefix) as entries:
            keys = sorted(f"{prefix}{entry.name}{'/' if entry.is_dir() else ''}" for entry in entries)
        keys = [key for key in keys if key > after]
        for start in range(0, len(keys), PAGE_SIZE):
            page = keys[start : start + PAGE_SIZE]
            yield [key if key.endswith("/") else self._describe(bucket, key) for key in page]

    def _describe(self, bucket: str, key: str) -> StoredObject:
        status = (self.folder / key).stat()
        etag = hashlib.md5(f"{key} {status.st_mtime_ns}".encode()).hexdigest()  # noqa: S324 - as S3 does
        return StoredObject(bucket, key, status.st_size, etag)

    def stat(self, bucket: str, key: str) -> StoredObject:
        """Raise NotImplementedError: reading a whole prefix never calls this method."""
        raise NotImplementedError

    def read(self, stored: StoredObject, start: int, stop: int) -> Iterator[bytes]:
        """Read bytes `start` to `stop` - 1."""
        with (self.folder / stored.key).open("rb") as file:
            file.seek(start)
            yield file.read(stop - start)

"""Objects in a folder instead of S3, to measure what is left without a server on the same processors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.storage import StoredObject

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True)
class FolderObjects:
    """An ObjectReader on the files of a folder. ETags are hashes of names and times, which is fast."""

    folder: Path

    def open(self) -> tuple[FolderObjects, None]:
        """Return what reads the objects; listings are not stored."""
        return self, None

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        path = self.folder / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def list(self, bucket: str, prefix: str) -> Iterator[StoredObject]:
        """List the objects whose keys start with `prefix`, which ends in a slash, ordered by key."""
        for path in _walk(self.folder / prefix):
            found, key = path.stat(), str(path.relative_to(self.folder))
            etag = hashlib.md5(f"{key} {found.st_mtime_ns}".encode()).hexdigest()  # noqa: S324  as S3 does
            yield StoredObject(bucket, key, found.st_size, etag)

    def list_level(self, bucket: str, prefix: str) -> Iterator[StoredObject | str]:
        """Not needed for a whole prefix."""
        raise NotImplementedError

    def stat(self, bucket: str, key: str) -> StoredObject:
        """Not needed for a whole prefix."""
        raise NotImplementedError

    def read(self, stored: StoredObject, start: int, stop: int) -> Iterator[bytes]:
        """Read bytes `start` to `stop` - 1."""
        with (self.folder / stored.key).open("rb") as file:
            file.seek(start)
            yield file.read(stop - start)


def _walk(folder: Path) -> Iterator[Path]:
    def by_key(entries: Iterable[Path]) -> list[Path]:
        return sorted(entries, key=lambda path: f"{path.name}/" if path.is_dir() else path.name)

    for path in by_key(folder.iterdir()):
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path

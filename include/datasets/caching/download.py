"""Downloads many objects, or one large one, over several connections.

Files that the store already has are linked, not downloaded. A dataset's objects need not have a SHA-256, so
every read is conditional on the ETag from the listing. A file exists before all its parts have arrived, but
cache.py makes the whole folder appear in one step. include/s3/download.py, in contrast, downloads one file
over one connection, and the file appears once its bytes match a SHA-256.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from include.datasets.caching.file_store import compute_object_key
from include.datasets.disk import flush_file
from include.datasets.parallel import map_in_order
from include.limits import MIB
from include.s3.client import CONNECTIONS
from include.s3.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from include.datasets.caching.file_store import FileStore
    from include.datasets.progress import ProgressLog
    from include.datasets.storage import ObjectReader, StoredObject

log = logging.getLogger(__name__)

_AHEAD = 25
"""Number of parts queued for each connection."""
_PART = 32 * MIB
"""Size of a part in bytes; smaller files are downloaded in one piece."""
_ATTEMPTS = 3


@dataclass
class _File:
    """A file that is being downloaded in parts."""

    stored: StoredObject
    """The object to download."""
    path: Path
    """Where the file is written."""
    parts: int
    """Number of parts that are not yet finished."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    """Held while `parts` is changed."""

    def end_part(self) -> bool:
        """Count a finished part; return whether it was the last one."""
        with self.lock:
            self.parts -= 1
            return not self.parts


@dataclass(frozen=True)
class _Part:
    """A range of bytes of a file, which one thread downloads."""

    file: _File
    """The file that the bytes belong to."""
    start: int
    """Position of the first byte, counted from 0."""
    stop: int
    """Position after the last byte."""


class Downloader:
    """Downloads objects, or links them if they are in the store; adds downloaded objects to the store."""

    def __init__(self, reader: ObjectReader, progress: ProgressLog, store: FileStore | None = None) -> None:
        self._reader, self._progress, self._store = reader, progress, store
        self._folders: set[Path] = set()

    def download(self, wanted: Iterable[tuple[StoredObject, Path]]) -> None:
        """Download each object to its path, creating folders as needed.

        Raises DatasetChanged if an object has been replaced or deleted since it was listed, FileExistsError
        for a path that exists, and StoreErrors. After an error, files that were already written remain.
        """
        # Only the errors are of interest, not the results.
        deque(map_in_order(self._fetch, self._divide(wanted), threads=CONNECTIONS, ahead=_AHEAD), maxlen=0)

    def _divide(self, wanted: Iterable[tuple[StoredObject, Path]]) -> Iterator[_Part]:
        for stored, path in wanted:
            file = _File(stored, path, parts=max(1, -(-stored.size // _PART)))
            if file.parts > 1:
                if self._take(file):
                    continue
                with path.open("xb") as empty:
                    empty.truncate(stored.size)
            for start in range(0, max(1, stored.size), _PART):
                yield _Part(file, start, min(start + _PART, stored.size))

    def _fetch(self, part: _Part) -> None:
        file, is_whole = part.file, part.stop - part.start == part.file.stored.size
        if is_whole and self._take(file):
            return
        mode: Literal["xb", "r+b"] = "xb" if is_whole else "r+b"
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                self._write(part, mode)
            except StoreUnavailable as error:
                # boto3 retries requests itself, but not after a response that ends halfway.
                if attempt == _ATTEMPTS:
                    raise
                log.warning("Retrying the download of %s: %s", file.stored.uri, error)
                mode = "r+b"
            else:
                break
        self._progress.advance(part.stop - part.start)
        if file.end_part() and self._store is not None:
            if not is_whole:
                flush_file(file.path)
            self._store.keep(file.path, compute_object_key(file.stored))

    def _take(self, file: _File) -> bool:
        """Create the file's folder, and link the file from the store; return False if the store lacks it."""
        path, stored = file.path, file.stored
        if path.parent not in self._folders:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        if self._store is not None and self._store.link(compute_object_key(stored), stored.size, str(path)):
            self._progress.advance(stored.size)
            return True
        return False

    def _write(self, part: _Part, mode: Literal["xb", "r+b"]) -> None:
        stored = part.file.stored
        with part.file.path.open(mode) as file:
            file.seek(part.start)
            if part.stop > part.start:
                for block in self._reader.read(stored, part.start, part.stop):
                    file.write(block)
            if file.tell() != part.stop:
                raise StoreUnavailable(
                    f"The download of {stored.uri} ended at byte {file.tell()} of {part.stop}"
                )

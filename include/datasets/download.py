"""Downloads many objects, or one large one, over several connections."""

from __future__ import annotations

import logging
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets.progress import Progress
from include.s3.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from include.datasets.storage import ObjectReader, StoredObject

log = logging.getLogger(__name__)

# Fewer than the ten connections that a boto3 client pools by default.
_CONNECTIONS = 8
_PART = 32 * 1024**2
_ATTEMPTS = 3


@dataclass(frozen=True)
class _Part:
    stored: StoredObject
    path: Path
    start: int
    stop: int


def download(reader: ObjectReader, wanted: Sequence[tuple[StoredObject, Path]], source: str) -> None:
    """Download each object to its path, creating folders as needed.

    Raises DatasetChanged if an object is replaced in the meantime; files written by then are left in place.
    """
    parts = list(_parts(wanted))
    progress = Progress(f"Fetching {source}", sum(stored.size for stored, _ in wanted), "bytes")
    with ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="dataset") as pool:
        try:
            futures = [pool.submit(_fetch, reader, part, progress) for part in parts]
            wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # Also when this thread is interrupted: wait only for the parts that are in progress.
            pool.shutdown(wait=False, cancel_futures=True)
    for future in futures:
        if not future.cancelled():
            future.result()


def _parts(wanted: Sequence[tuple[StoredObject, Path]]) -> Iterator[_Part]:
    for stored, path in wanted:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.truncate(stored.size)
        for start in range(0, stored.size, _PART):
            yield _Part(stored, path, start, min(start + _PART, stored.size))


def _fetch(reader: ObjectReader, part: _Part, progress: Progress) -> None:
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _write(reader, part)
        except StoreUnavailable as error:
            # boto3 retries requests itself, but not a response that breaks off halfway.
            if attempt == _ATTEMPTS:
                raise
            log.warning("Retrying the download of %s: %s", part.stored.uri, error)
        else:
            progress.advance(part.stop - part.start)
            return


def _write(reader: ObjectReader, part: _Part) -> None:
    with part.path.open("r+b") as file:
        file.seek(part.start)
        for block in reader.read(part.stored, part.start, part.stop):
            file.write(block)
        if file.tell() != part.stop:
            raise StoreUnavailable(
                f"The download of {part.stored.uri} ended at byte {file.tell()} of {part.stop}"
            )

"""Keeps the listing of a dataset's S3 objects in a file, so that even four million take little memory.

The file consists of compressed JSON lines. The first line is the name of the data YAML or null; every other
line has an object's name relative to the prefix, its size in bytes and its ETag. The fingerprint is computed
from the same values, so a listing can be verified against the fingerprint under which it is stored.

Listings of checked prefixes are also stored in S3, so that exactly the checked objects can be fetched later.
"""

from __future__ import annotations

import gzip
import json
import logging
import shutil
import tempfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING

from include.datasets.fingerprint import TreeDigest
from include.datasets.names import split_safely
from include.datasets.storage import StoredObject
from include.limits import LISTING_LINE, PREFIX_OBJECTS
from include.s3.download import download
from include.s3.errors import ObjectNotFound, StoreRefusal
from include.s3.layout import build_listing_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from include.datasets.sources import S3Tree
    from include.s3.bucket import Bucket

log = logging.getLogger(__name__)

DAMAGED = (
    *(gzip.BadGzipFile, EOFError, zlib.error),
    *(ValueError, TypeError, AttributeError, OverflowError, RecursionError),
)
"""The errors that reading a damaged listing raises."""


@dataclass(frozen=True)
class Listing:
    """Objects with their names relative to the prefix, in the order of their keys.

    A listing can be read any number of times, but only by one reader at a time.
    """

    file: IO[bytes]
    """The open file of compressed lines. A temporary file vanishes when nothing refers to it any more."""
    origin: S3Tree
    """Where the objects are."""
    fingerprint: str
    """Identifies the names and contents of the objects."""
    count: int
    """The number of objects."""

    @classmethod
    def write(cls, origin: S3Tree, objects: Iterable[tuple[str, StoredObject]]) -> Listing:
        """Write a listing of the objects while they are being listed."""
        digest = TreeDigest(origin.yaml)
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the listing
        with _write_lines(file, origin) as write:
            for name, stored in objects:
                write(name, stored)
                digest.add(name, stored)
        return cls(file, origin, digest.fingerprint(), digest.count)

    @classmethod
    def read(cls, path: Path, origin: S3Tree) -> Listing:
        """Open an existing listing and compute its fingerprint. Raises one of DAMAGED, and OSErrors."""
        digest = TreeDigest(origin.yaml)
        file = path.open("rb")
        try:
            for name, stored in _parse(file, origin):
                digest.add(name, stored)
        except DAMAGED:
            file.close()
            raise
        return cls(file, origin, digest.fingerprint(), digest.count)

    def __iter__(self) -> Iterator[tuple[str, StoredObject]]:
        return _parse(self.file, self.origin)

    def copy_to(self, path: Path) -> None:
        """Write the compressed lines to a file, in one step."""
        self.file.seek(0)
        partial = path.with_name(f"{path.name}.partial")
        with partial.open("wb") as copy:
            shutil.copyfileobj(self.file, copy)
        partial.replace(path)


@contextmanager
def write_objects(path: Path, origin: S3Tree) -> Iterator[Callable[[str, StoredObject], None]]:
    """Yield a function that adds an object, by its name relative to the prefix, to the listing at `path`."""
    with path.open("wb") as file, _write_lines(file, origin) as write:
        yield write


def read_objects(
    path: Path, origin: S3Tree, numbers: range | None = None
) -> Iterator[tuple[str, StoredObject]]:
    """Yield the objects of the listing at `path`, or only those with the numbers given.

    Raises one of DAMAGED, and OSErrors.
    """
    with path.open("rb") as file:
        yield from _parse(file, origin, numbers)


@contextmanager
def _write_lines(file: IO[bytes], origin: S3Tree) -> Iterator[Callable[[str, StoredObject], None]]:
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1, mtime=0) as packed:
        _write(packed, origin.yaml)
        yield lambda name, stored: _write(packed, [name, stored.size, stored.etag])


def _write(packed: gzip.GzipFile, value: object) -> None:
    packed.write(json.dumps(value).encode() + b"\n")


def _parse(
    file: IO[bytes], origin: S3Tree, numbers: range | None = None
) -> Iterator[tuple[str, StoredObject]]:
    """Read an untrusted listing line by line, within limits. Raises one of DAMAGED, and OSErrors."""
    file.seek(0)
    numbers = range(PREFIX_OBJECTS) if numbers is None else numbers
    with gzip.open(file) as unpacked:
        _read_line(unpacked)  # the name of the data YAML, which is also in `origin`
        for line in islice(iter(partial(_read_line, unpacked), b""), numbers.start, numbers.stop):
            name, size, etag = json.loads(line)
            split_safely(name)
            yield name, StoredObject(origin.bucket, origin.prefix + name, int(size), str(etag))
        if numbers.stop == PREFIX_OBJECTS and unpacked.read(1):
            raise ValueError(f"it lists more than {PREFIX_OBJECTS:,} objects")


def _read_line(file: gzip.GzipFile) -> bytes:
    line = file.readline(LISTING_LINE + 1)
    if len(line) > LISTING_LINE:
        raise ValueError(f"a line is longer than {LISTING_LINE} bytes")
    return line


class S3Listings:
    """The listings in one bucket, by fingerprint. A damaged listing is treated as missing."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def save(self, listing: Listing) -> None:
        """Store a listing. If S3 refuses it, only log a warning, so that the check can still succeed.

        Raises StoreUnavailable if a retry may succeed.
        """
        listing.file.seek(0)
        try:
            self._bucket.put(build_listing_key(listing.fingerprint), listing.file)
        except StoreRefusal as error:
            log.warning(
                "The listing of the dataset was not stored, so other machines can fetch its files only "
                "as long as nothing under the prefix changes: %s",
                error,
            )

    def load(self, fingerprint: str, origin: S3Tree) -> Listing | None:
        """Return the objects that were checked; None if no intact listing is stored.

        Raises StoreErrors.
        """
        location = self._bucket.at(build_listing_key(fingerprint))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "listing"
            try:
                with download(self._bucket.client, location, file):
                    pass
            except ObjectNotFound:
                return None
            try:
                listing = Listing.read(file, origin)
            except DAMAGED:
                listing = None
        if listing is not None and listing.fingerprint == fingerprint:
            return listing
        log.warning("%s is damaged and will be ignored.", location.uri)
        return None

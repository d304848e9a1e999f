"""Listings of checked S3 prefixes, so that exactly the objects that were checked can be fetched later.

    s3://{checkpoint bucket}/datasets/{fingerprint}.jsonl.gz

The first line is the name of the data YAML or null; each other line is an object's name relative to the
prefix, its size in bytes and its ETag. The fingerprint is computed from the same lines, so a listing verifies
itself: a damaged one counts as missing.
"""

from __future__ import annotations

import gzip
import json
import logging
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.fingerprint import tree_fingerprint
from include.datasets.names import safe_parts
from include.datasets.storage import StoredObject
from include.limits import LISTING_LINE, PREFIX_OBJECTS
from include.s3.download import download
from include.s3.errors import ObjectNotFound, StoreRefusal
from include.s3.layout import listing_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from include.datasets.sources import S3Tree
    from include.datasets.storage import NamedObjects
    from include.s3.bucket import Bucket

log = logging.getLogger(__name__)


class S3Listings:
    """The listings in one bucket, by fingerprint."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket

    def save(self, fingerprint: str, objects: NamedObjects, yaml: str | None) -> None:
        """Store a listing, or log a warning if S3 does not allow it: the check need not fail because of that.

        Raises StoreUnavailable if S3 does not answer.
        """
        with tempfile.TemporaryFile() as file:
            with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:
                packed.writelines(_lines(objects, yaml))
            file.seek(0)
            try:
                self._bucket.put(listing_key(fingerprint), file)
            except StoreRefusal as error:
                log.warning(
                    "The listing of the dataset was not stored, so other machines can fetch its files only "
                    "as long as nothing under the prefix changes: %s",
                    error,
                )

    def load(self, fingerprint: str, origin: S3Tree) -> NamedObjects | None:
        """Return the objects that were checked; None if no intact listing is stored.

        Raises StoreErrors.
        """
        location = self._bucket.at(listing_key(fingerprint))
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "listing"
            try:
                with download(self._bucket.client, location, file):
                    pass
            except ObjectNotFound:
                return None
            try:
                objects = list(_parse(file, origin))
                intact = tree_fingerprint(objects, origin.yaml) == fingerprint
            except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, TypeError):
                intact = False
        if not intact:
            log.warning("%s is damaged and will be ignored.", location.uri)
        return objects if intact else None


def _lines(objects: NamedObjects, yaml: str | None) -> Iterator[bytes]:
    values: Iterable[object] = ([name, stored.size, stored.etag] for name, stored in objects)
    for value in (yaml, *values):
        yield json.dumps(value).encode() + b"\n"


def _parse(file: Path, origin: S3Tree) -> Iterator[tuple[str, StoredObject]]:
    """Read a listing line by line, within limits: it comes from outside. Raises ValueError and OSError."""
    with gzip.open(file) as unpacked:
        _read_line(unpacked)  # the data YAML, which the fingerprint compares
        for _ in range(PREFIX_OBJECTS):
            line = _read_line(unpacked)
            if not line:
                return
            name, size, etag = json.loads(line)
            safe_parts(name)
            yield name, StoredObject(origin.bucket, origin.prefix + name, int(size), str(etag))
        if unpacked.read(1):
            raise ValueError(f"it lists more than {PREFIX_OBJECTS:,} objects")


def _read_line(file: gzip.GzipFile) -> bytes:
    line = file.readline(LISTING_LINE + 1)
    if len(line) > LISTING_LINE:
        raise ValueError(f"a line is longer than {LISTING_LINE} bytes")
    return line

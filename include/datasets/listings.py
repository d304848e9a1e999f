"""The listings of checked S3 prefixes, so that exactly the objects that were checked can be fetched later.

    s3://{checkpoint bucket}/datasets/{fingerprint}.jsonl.gz

The first line is the name of the data YAML or null; each other line is an object's name below the prefix, its
size in bytes and its ETag. The fingerprint is made of the same lines, so a listing proves itself: a damaged
one counts as missing.
"""

from __future__ import annotations

import gzip
import json
import logging
import tempfile
import zlib
from contextlib import closing
from typing import IO, TYPE_CHECKING

from include.datasets.fingerprint import tree_fingerprint
from include.datasets.names import safe_parts
from include.datasets.storage import StoredObject
from include.limits import LISTING_LINE, MIB, PREFIX_OBJECTS
from include.s3.errors import StoreRefusal, is_not_found, translate_s3_errors
from include.s3.layout import listing_key
from include.s3.location import S3Location

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mypy_boto3_s3 import S3Client

    from include.datasets.sources import S3Tree
    from include.datasets.storage import NamedObjects

log = logging.getLogger(__name__)


class S3Listings:
    """The listings in one bucket, by the fingerprint of what they list."""

    def __init__(self, client: S3Client, bucket: str) -> None:
        self._client, self._bucket = client, bucket

    def save(self, fingerprint: str, objects: NamedObjects, yaml: str | None) -> None:
        """Store a listing. Where S3 does not allow that, say so in the log: the check need not fail for it.

        Raises StoreUnavailable where S3 does not answer.
        """
        location = S3Location(self._bucket, listing_key(fingerprint))
        with tempfile.TemporaryFile() as file:
            with gzip.GzipFile(fileobj=file, mode="wb", mtime=0) as packed:
                packed.writelines(_lines(objects, yaml))
            file.seek(0)
            try:
                with translate_s3_errors(self._client, location):
                    self._client.put_object(Bucket=self._bucket, Key=listing_key(fingerprint), Body=file)
            except StoreRefusal as error:
                log.warning(
                    "The listing of the dataset was not stored, so other machines can fetch its files only "
                    "while nothing below the prefix changes: %s",
                    error,
                )

    def load(self, fingerprint: str, origin: S3Tree) -> NamedObjects | None:
        """Return the objects that were checked; None where no intact listing is stored.

        Raises StoreErrors.
        """
        location = S3Location(self._bucket, listing_key(fingerprint))
        with tempfile.TemporaryFile() as file:
            with translate_s3_errors(self._client, location):
                if not self._download(fingerprint, file):
                    return None
            file.seek(0)
            try:
                objects = list(_parse(file, origin))
                intact = tree_fingerprint(objects, origin.yaml) == fingerprint
            except (gzip.BadGzipFile, EOFError, zlib.error, ValueError, TypeError):
                intact = False
        if not intact:
            log.warning("%s is damaged and not used.", location.uri)
        return objects if intact else None

    def _download(self, fingerprint: str, file: IO[bytes]) -> bool:
        """Write the stored bytes to `file`. Returns False where there is no such object."""
        from botocore.exceptions import ClientError

        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=listing_key(fingerprint))
        except ClientError as error:
            if is_not_found(error):
                return False
            raise
        with closing(answer["Body"]) as body:
            for block in body.iter_chunks(MIB):
                file.write(block)
        return True


def _lines(objects: NamedObjects, yaml: str | None) -> Iterator[bytes]:
    values: Iterable[object] = ([name, stored.size, stored.etag] for name, stored in objects)
    for value in (yaml, *values):
        yield json.dumps(value).encode() + b"\n"


def _parse(file: IO[bytes], origin: S3Tree) -> Iterator[tuple[str, StoredObject]]:
    """Read a listing line by line, within limits: it comes from outside. Raises ValueError and OSError."""
    with gzip.GzipFile(fileobj=file) as unpacked:
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

"""Downloads an S3 object to a local file, which appears complete or not at all."""

from __future__ import annotations

import hashlib
import logging
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING
from uuid import uuid4

from include.blocks import BLOCK
from include.s3.errors import LocalDiskError, ObjectTooLarge, list_interruptions, translate_s3_errors

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

    from include.s3.location import S3Location

log = logging.getLogger(__name__)

_BREAKS = 5  # consecutive interruptions without new bytes in between

REREAD_SECONDS = (0.2, 3.5)
"""Pauses in seconds before an object whose bytes are wrong is read again. If they are also wrong the third
time, they are wrong in S3."""


@dataclass(frozen=True)
class FetchedObject:
    """A downloaded object."""

    sha256: str
    """Hash of the received bytes, in hexadecimal."""
    size: int
    """Number of received bytes."""
    etag: str
    """The ETag with its quotes, as S3 returns it."""
    metadata: Mapping[str, str]
    """The object's metadata."""


@contextmanager
def download(
    client: S3Client, location: S3Location, to: Path, largest: int | None = None, sha256: str | None = None
) -> Iterator[FetchedObject]:
    """Download to a temporary file, let the caller verify it, then rename it to `to`; clean up on errors.

    `sha256` is the expected hash; by default, the one in the object's metadata. A file with a different hash
    is downloaded again, at most twice. The caller gets the last download even if its hash still differs.

    Raises ObjectNotFound, ObjectTooLarge (more than `largest` bytes), LocalDiskError (no space, or not
    writable), StoreUnreachable and the other StoreErrors.
    """
    part = to.with_name(f".{to.name}.{uuid4().hex}.part")
    with _local_disk(to):
        to.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("xb")
    try:
        with file, translate_s3_errors(client, location):
            downloaded = _read_until_whole(_Download(client, location, file, to, largest), sha256)
        yield downloaded
        with _local_disk(to):
            part.replace(to)
    finally:
        part.unlink(missing_ok=True)


def _read_until_whole(download: _Download, sha256: str | None) -> FetchedObject:
    """Download, and retry if the bytes differ from the stored ones: they may have been damaged in transit."""
    for pause in REREAD_SECONDS:
        downloaded = download.run()
        if (sha256 or downloaded.metadata.get("sha256")) in (None, downloaded.sha256):
            return downloaded
        log.warning(
            "The downloaded bytes of %s differ from the stored ones; downloading the object again.",
            download.location.uri,
        )
        time.sleep(pause)
    return download.run()


class _Download:
    """The transfer of an object to a file, which resumes after a broken connection."""

    def __init__(
        self, client: S3Client, location: S3Location, file: IO[bytes], to: Path, largest: int | None
    ) -> None:
        self.location = location
        self._client, self._file, self._to = client, file, to
        self._largest = largest

    def run(self) -> FetchedObject:
        self._hash, self._received = hashlib.sha256(), 0
        self._file.seek(0)
        self._file.truncate()
        first = answer = self._client.get_object(Bucket=self.location.bucket, Key=self.location.key)
        size, breaks = first["ContentLength"], 0
        if self._largest is not None and size > self._largest:
            raise ObjectTooLarge(self.location.uri, size, self._largest)
        self._require_space(size)
        while True:
            before = self._received
            try:
                self._receive(answer)
                break
            except list_interruptions() as error:
                breaks = 1 if self._received > before else breaks + 1
                if breaks == _BREAKS:
                    raise
                log.warning(
                    "The download of %s was interrupted after %d of %d bytes (%s); resuming from there.",
                    self.location.uri, self._received, size, error,
                )  # fmt: skip
            if self._received == size:
                break
            answer = self._continue(first["ETag"])
        return FetchedObject(self._hash.hexdigest(), self._received, first["ETag"], first["Metadata"])

    def _receive(self, answer: GetObjectOutputTypeDef) -> None:
        for block in answer["Body"].iter_chunks(BLOCK):
            with _local_disk(self._to):
                self._file.write(block)
            self._hash.update(block)
            self._received += len(block)
        with _local_disk(self._to):
            self._file.flush()

    def _continue(self, etag: str) -> GetObjectOutputTypeDef:
        return self._client.get_object(
            Bucket=self.location.bucket,
            Key=self.location.key,
            Range=f"bytes={self._received}-",
            IfMatch=etag,
        )

    def _require_space(self, size: int) -> None:
        free = shutil.disk_usage(self._to.parent).free
        if free < size:
            raise LocalDiskError(
                f"{self.location.uri} has {size} bytes, but {self._to.parent} has only {free} bytes free; "
                "free some space, or set TRAINING_ROOT to a larger disk"
            )


@contextmanager
def _local_disk(to: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise LocalDiskError(
            f"{to} could not be written: {error.strerror or error}; make room there or correct its "
            "permissions, or set TRAINING_ROOT to another disk"
        ) from error

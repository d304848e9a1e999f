"""Writes objects safely despite concurrent writers: a writer replaces only versions that it knows."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.checkpoints.stored import find_checkpoint
from include.s3.deadline import answer_or_look
from include.s3.errors import (
    BytesRefused,
    ConditionFailed,
    CorruptObject,
    FencedOut,
    LocalFileChanged,
    ObjectNotFound,
    SourceChanged,
    StoreBusy,
    StoreUnavailable,
)
from include.s3.local_file import LocalFile
from include.s3.multipart import MultipartUpload
from include.s3.upload import build_unchanged_condition, copy, put

if TYPE_CHECKING:
    from collections.abc import Mapping

    from include.checkpoints.stored import StoredCheckpoint
    from include.s3.bucket import Bucket
    from include.s3.errors import StoreError
    from include.s3.local_file import TransferLimits
    from include.s3.location import S3Location
    from include.s3.upload import Condition

log = logging.getLogger(__name__)

_REFUSALS = (BytesRefused, ConditionFailed, ObjectNotFound)
"""Errors after which the parts that have arrived are useless for a retry."""


class ObjectWriter:
    """Overwrites only the version of an object that it first saw or that it wrote itself.

    It raises FencedOut for any other version. S3 itself checks, at the moment of the write, that the object
    is still the expected one (If-Match) or still absent (If-None-Match). Until the writer knows the outcome
    of a write, it remembers the file's hash. So it recognises its own write even if the response was lost.

    A `fence` is another object, which only one writer may own. An object that it protects is written only
    while the fence has the version that this writer knows. A writer that wrote the fence may replace any
    version of the protected object: an unknown version can only be a late write by a writer that has lost the
    fence.
    """

    def __init__(self, bucket: Bucket, limits: TransferLimits) -> None:
        self._bucket = bucket
        self._limits = limits
        self._known: dict[S3Location, str | None] = {}
        self._in_doubt: dict[S3Location, set[str]] = {}
        self._written: set[S3Location] = set()
        self._broken_off: dict[S3Location, tuple[str, MultipartUpload]] = {}

    def find(self, location: S3Location) -> StoredCheckpoint | None:
        """Return the stored object, or None.

        This writer may replace the version that it finds first.
        """
        existing = self._find_stored(location)
        self.meet(location, existing.etag if existing else None)
        return existing

    def look(self, location: S3Location) -> None:
        """Let this writer replace the current version, even if it has seen an older one.

        Only for objects that a fence protects.
        """
        existing = self._find_stored(location)
        self._known[location] = existing.etag if existing else None

    def meet(self, location: S3Location, etag: str | None) -> None:
        """Remember this version, unless this writer already knows one."""
        self._known.setdefault(location, etag)

    def accept(self, location: S3Location, existing: StoredCheckpoint) -> None:
        """Remember `existing`, the stored object, as one that this writer may replace."""
        if self._was_sent(location, existing):
            self._written.add(location)
        self._known[location] = existing.etag

    def require_unchanged(
        self, location: S3Location, existing: StoredCheckpoint | None, fence: S3Location | None = None
    ) -> None:
        """Raise FencedOut unless this writer may replace `existing`, which was just found at `location`."""
        if fence is not None:
            self.require_unchanged(fence, self.find(fence))
        etag = existing.etag if existing else None
        if (
            self._known[location] != etag
            and not self._was_sent(location, existing)
            and fence not in self._written
        ):
            if broken_off := self._broken_off.pop(location, None):
                broken_off[1].abort()
            raise _build_fence_error(location, existing)
        if existing:
            self.accept(location, existing)
        else:
            self._known[location] = None

    def put(
        self,
        file: LocalFile,
        location: S3Location,
        metadata: Mapping[str, str],
        fence: S3Location | None,
        *,
        keep_parts: bool = False,
    ) -> StoredCheckpoint:
        """Store the file and return the stored object. Raises FencedOut and the other StoreErrors.

        With `keep_parts`, parts that arrived before the connection broke are kept for the next call.
        """
        self._in_doubt.setdefault(location, set()).add(file.sha256)
        etag = None
        while etag is None:
            try:
                etag = self._send(file, location, metadata, keep_parts=keep_parts)
            except _REFUSALS as error:
                etag = self._resolve_refusal(error, file, location, fence)
        self._known[location] = etag
        stored = self._verify(file, location)
        self._written.add(location)
        del self._in_doubt[location]
        return stored

    def copy(
        self, source: S3Location, etag: str, size: int, to: S3Location, metadata: Mapping[str, str]
    ) -> StoredCheckpoint:
        """Copy the object with that ETag within S3, replacing the known version at `to`; return the copy.

        `size` is the size of the object in bytes. Raises SourceChanged if the source has changed, and
        FencedOut if the target has.
        """
        try:
            copy(
                self._bucket.client, source, etag, size, to, metadata, self._limits, self._build_condition(to)
            )
        except (ConditionFailed, ObjectNotFound) as error:
            existing = self._find_stored(source)
            if existing is None or existing.etag != etag:
                raise SourceChanged(_explain_overtaking(source, existing)) from error
            # The source is unchanged, so look at the target. If only the response was lost, botocore retried,
            # and S3 refused because the first try had already replaced the target.
        existing = self._find_stored(to)
        if existing is None or not metadata.items() <= existing.metadata.items():
            raise _build_fence_error(to, existing)
        self._known[to] = existing.etag
        return existing

    def keeps_parts(self, location: S3Location) -> bool:
        """Return whether S3 holds parts of an interrupted upload to `location`."""
        upload = self._broken_off.get(location)
        return upload is not None and upload[1].has_parts

    def _send(
        self, file: LocalFile, location: S3Location, metadata: Mapping[str, str], *, keep_parts: bool
    ) -> str:
        if not file.parts:
            return answer_or_look(
                lambda: put(self._bucket.client, file, location, metadata, self._build_condition(location)),
                lambda: self._find_etag(file, location),
                self._limits.answer_seconds,
            )
        sha256, upload = self._broken_off.pop(location, ("", None))
        if upload is not None and sha256 != file.sha256:
            upload.abort()
        if upload is None or sha256 != file.sha256:
            upload = MultipartUpload(self._bucket.client, location, metadata)
        try:
            upload.send(file, self._limits.parallel_parts)
            return upload.complete(self._build_condition(location))
        except BaseException as error:
            if keep_parts and isinstance(error, Exception) and not isinstance(error, _REFUSALS):
                self._broken_off[location] = (file.sha256, upload)
            else:
                upload.abort()
            raise

    def _find_etag(self, file: LocalFile, location: S3Location) -> str | None:
        """Return the object's ETag if the object holds the file and is not the one to replace; else None."""
        existing = self._find_stored(location)
        if existing is None or existing.etag == self._known[location]:
            return None
        return existing.etag if existing.sha256 == file.sha256 else None

    def _build_condition(self, location: S3Location) -> Condition:
        return build_unchanged_condition(self._known[location])

    def _was_sent(self, location: S3Location, existing: StoredCheckpoint | None) -> bool:
        """Return whether this writer sent the object without getting a response."""
        return existing is not None and existing.sha256 in self._in_doubt.get(location, ())

    def _resolve_refusal(
        self, error: StoreError, file: LocalFile, location: S3Location, fence: S3Location | None
    ) -> str | None:
        """Return the ETag of the file if it was stored after all; None if the write may be retried."""
        if isinstance(error, BytesRefused):
            if not self._is_unchanged(file):
                raise build_change_error(str(file.path), file.sha256) from error
            raise StoreUnavailable(
                f"S3 at {self._bucket.endpoint} received different bytes for {location.uri} "
                "than were sent; nothing was stored, so try again. If this persists, check the network"
            ) from error
        existing = self._find_stored(location)
        if existing and existing.sha256 == file.sha256:
            # The write had succeeded, but its response was lost. boto3 retried, and S3 refused because the
            # first try had already written the object.
            return existing.etag
        known = self._known[location]
        self.require_unchanged(location, existing, fence)
        if self._known[location] == known:
            raise StoreBusy(
                f"S3 at {self._bucket.endpoint} refused to write {location.uri} because another "
                "write to it was in progress; the object itself is unchanged, so try again"
            ) from error
        return None

    def _is_unchanged(self, file: LocalFile) -> bool:
        """Return whether the file is unchanged; if so, its bytes were damaged on their way to the server."""
        try:
            return LocalFile.read(file.path, self._limits).sha256 == file.sha256
        except FileNotFoundError:
            return False

    def _verify(self, file: LocalFile, location: S3Location) -> StoredCheckpoint:
        stored = self._find_stored(location)
        if stored is None or stored.etag != self._known[location]:
            raise _build_fence_error(location, stored)
        # Some servers verify the checksum of an upload, but do not store it.
        checksum = file.stored_checksum if stored.checksum is None else stored.checksum
        if (stored.sha256, stored.size, checksum) != (file.sha256, file.size, file.stored_checksum):
            raise CorruptObject(
                f"{location.uri} is not what was sent ({file.size} bytes, SHA-256 {file.sha256}): the "
                f"server has {stored}, checksum {checksum}; check the S3 server, then clear this task"
            )
        return stored

    def _find_stored(self, location: S3Location) -> StoredCheckpoint | None:
        return find_checkpoint(self._bucket.client, location)


def build_change_error(path: str, expected: str) -> LocalFileChanged:
    """Return the error for a file that has changed since training wrote it."""
    return LocalFileChanged(
        f"{path} has changed since training wrote it: its SHA-256 is no longer {expected}; "
        "nothing was stored. Clear the task `train` of this run to create it again"
    )


def _build_fence_error(location: S3Location, existing: StoredCheckpoint | None) -> FencedOut:
    return FencedOut(_explain_overtaking(location, existing))


def _explain_overtaking(location: S3Location, existing: StoredCheckpoint | None) -> str:
    if existing is None:
        return (
            f"{location.uri} has been deleted since this attempt last saw it: manually, by a lifecycle rule, "
            "or for a new training run with this job id. This attempt stops and has written nothing"
        )
    return (
        f"{location.uri} has been changed by another attempt since this one last saw it (now: "
        f"{existing}): that attempt owns the job. This one stops and has overwritten nothing"
    )

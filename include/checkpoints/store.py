"""Stores checkpoints in S3: one key per job and kind, one writer at a time, hashes always verified."""

from __future__ import annotations

import logging
import re
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from include.checkpoints.checkpoint import CHECKPOINT_KINDS
from include.checkpoints.errors import CheckpointNotFound
from include.checkpoints.inspection.in_s3 import inspect_object, require_loadable_size
from include.checkpoints.stored import (
    SEEDED_FROM,
    UploadResult,
    build_metadata,
    parse_checkpoint,
    require_recorded_bytes,
)
from include.checkpoints.writer import ObjectWriter, build_change_error
from include.limits import WEIGHTS_BYTES
from include.s3.deadline import obey_deadlines
from include.s3.download import download
from include.s3.errors import (
    CorruptObject,
    FencedOut,
    ForeignObject,
    LocalFileMissing,
    ObjectNotFound,
    ObjectTooLarge,
    SourceChanged,
    StoreBusy,
)
from include.s3.layout import build_checkpoint_key
from include.s3.local_file import LocalFile, TransferLimits
from include.s3.location import JOB_ID, JOB_ID_RULE, S3Location
from include.s3.reading import head_object, read_object

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import Checkpoint, CheckpointKind
    from include.checkpoints.inspection.contents import Contents
    from include.checkpoints.stored import StoredCheckpoint
    from include.s3.bucket import Bucket
    from include.s3.deadline import Deadline
    from include.s3.layout import StoredKind

log = logging.getLogger(__name__)


class CheckpointStore:
    """The checkpoints of all jobs in one bucket.

    Each attempt writes through a separate store. The store remembers the first version that it saw of each
    object, and overwrites only that version or one that it wrote itself. If another attempt has written since
    then, the store raises FencedOut and leaves the object unchanged. It may replace any version of
    last.previous.pt. Several threads may use the store for different jobs.

    A new attempt takes over a job by uploading last.pt with its attempt number in it. This changes the bytes
    and so the ETag: the older attempt's next write of last.pt or best.pt raises FencedOut. The older attempt
    may still be uploading a best.pt. This does no harm: the attempt that wrote last.pt may replace that file.
    If the take-over itself raises FencedOut, the older attempt has just written once more: try again with a
    new store.
    """

    def __init__(
        self, bucket: Bucket, limits: TransferLimits | None = None, run_id: str | None = None
    ) -> None:
        obey_deadlines(bucket.client)
        self._bucket = bucket
        self._run_id = run_id
        self._limits = limits or TransferLimits()
        self._writer = ObjectWriter(bucket, self._limits)

    def locate(self, job_id: str, kind: StoredKind) -> S3Location:
        """Return the location of this checkpoint of the job. Raises ValueError for an invalid job id."""
        if not re.match(JOB_ID, job_id):
            raise ValueError(f"job_id={job_id!r} cannot name a checkpoint: it must be {JOB_ID_RULE}")
        return self._bucket.at(build_checkpoint_key(job_id, kind))

    def build_uri(self, job_id: str, kind: StoredKind) -> str:
        """Return the s3:// URI of this checkpoint of the job."""
        return self.locate(job_id, kind).uri

    def head(self, job_id: str, kind: StoredKind) -> StoredCheckpoint | None:
        """Return the stored checkpoint, as its metadata describe it; None if there is no object."""
        return self._writer.find(self.locate(job_id, kind))

    def holds(self, job_id: str, kind: CheckpointKind, wanted: Checkpoint) -> bool:
        """Return whether the stored checkpoint has the bytes of `wanted`."""
        stored = self.head(job_id, kind)
        return stored is not None and stored.is_the_same_as(wanted)

    def is_intact(self, job_id: str, kind: CheckpointKind, wanted: Checkpoint) -> bool:
        """Read the stored checkpoint; return whether its bytes are those of `wanted`."""
        try:
            found = read_object(self._bucket.client, self.locate(job_id, kind))
        except (ObjectNotFound, CorruptObject):
            return False
        return (found.sha256, found.size) == (wanted.sha256, wanted.size)

    def verify(self, job_id: str, kind: CheckpointKind, wanted: Checkpoint) -> StoredCheckpoint:
        """Return the stored checkpoint. Raises CheckpointNotFound, or CorruptObject if its bytes differ."""
        stored = self.head(job_id, kind)
        if stored is None:
            raise CheckpointNotFound(f"{self.build_uri(job_id, kind)} does not exist")
        if not stored.is_the_same_as(wanted):
            raise CorruptObject(
                f"{stored.uri} holds {stored}, but an object with SHA-256 {wanted.sha256} and {wanted.size} "
                "bytes was expected"
            )
        return stored

    def upload(
        self,
        checkpoint: Checkpoint,
        job_id: str,
        kind: CheckpointKind,
        ultralytics_version: str,
        *,
        deadline: Deadline | None = None,
        keep_previous: bool = True,
        keep_parts: bool = False,
        replace_damaged: bool = False,
    ) -> UploadResult:
        """Upload the local file `checkpoint` as the job's best.pt or last.pt, unless S3 already has it.

        A replaced last.pt is kept as last.previous.pt. With `keep_previous=False`, last.previous.pt stays as
        it is; use this if the stored last.pt is damaged, or holds the same state as `checkpoint`. With
        `keep_parts`, the next call resumes the upload of a large file where its connection broke. With
        `replace_damaged`, the file is sent although the stored object names its hash.

        After LocalFileMissing, LocalFileChanged and FencedOut, S3 does not hold the file. After any other
        StoreError, S3 may hold it: the next upload through this store checks this.
        """
        started = time.monotonic()
        with deadline.applied() if deadline else nullcontext():
            upload = self._store(
                checkpoint, job_id, kind, ultralytics_version, keep_previous, keep_parts, replace_damaged
            )
        stored, seconds = upload.stored, time.monotonic() - started
        if upload.was_sent:
            speed = checkpoint.size / seconds / 1e6
            log.info("Uploaded %s in %.1f s, %.1f MB/s: %s.", stored.uri, seconds, speed, stored)
        else:
            log.info("%s already holds these bytes (%s); nothing was sent.", stored.uri, stored)
        return upload

    def keeps_parts(self, job_id: str) -> bool:
        """Return whether S3 holds parts of an interrupted upload of the job, which can be resumed."""
        return any(self._writer.keeps_parts(self.locate(job_id, kind)) for kind in CHECKPOINT_KINDS)

    def seed(
        self, parent_job_id: str, job_id: str, kind: CheckpointKind, expected: Checkpoint
    ) -> StoredCheckpoint:
        """Copy the parent's checkpoint to the job `job_id`, within S3, and return the stored checkpoint.

        An object that this training run has already stored itself is kept, so the call may be repeated.
        Objects of an earlier training run with the same job id are replaced, and its last.pt is kept as
        last.previous.pt. Raises CheckpointNotFound or CorruptObject if the parent's object is no longer the
        `expected` one, and FencedOut if another attempt has written to this job's object.
        """
        location = self.locate(job_id, kind)
        existing = self._writer.find(location)
        if existing and existing.checkpoint and existing.run_id == self._run_id:
            return existing
        parent = self.verify(parent_job_id, kind, expected)
        self._writer.require_unchanged(location, existing)
        if kind == "last" and existing:
            self._keep_previous(job_id, existing)
        metadata = build_metadata(expected, job_id, self._run_id, parent.ultralytics_version or "unknown")
        metadata[SEEDED_FROM] = parent_job_id
        try:
            source = self.locate(parent_job_id, kind)
            seeded = self._writer.copy(source, parent.etag, expected.size, location, metadata)
        except SourceChanged as error:
            raise CorruptObject(
                f"{parent.uri} no longer has SHA-256 {expected.sha256}: it was replaced in the "
                "meantime; trigger a new run"
            ) from error
        log.info("Copied %s to %s: %s.", parent.uri, location.uri, seeded)
        return seeded

    def download(
        self, job_id: str, kind: StoredKind, to: Path, expected: Checkpoint | None = None
    ) -> Checkpoint:
        """Download the checkpoint to the file `to`, which is created only if every byte is correct.

        Raises CheckpointNotFound, ForeignObject (no checksum to verify), CorruptObject (damaged, or not the
        `expected` one), LocalDiskError and the other StoreErrors.
        """
        location = self.locate(job_id, kind)
        try:
            with download(self._bucket.client, location, to) as object_:
                stored = parse_checkpoint(object_.metadata, location.uri, object_.size)
                if stored is None:
                    raise ForeignObject(
                        f"{location.uri} was not written by this project: it has no sha256 to verify; "
                        "start a new job with that file as `model` instead"
                    )
                require_recorded_bytes(location.uri, object_.sha256, stored.sha256)
                if expected and stored.sha256 != expected.sha256:
                    raise CorruptObject(
                        f"{location.uri} holds SHA-256 {stored.sha256}, but {expected.sha256} was expected: "
                        "it was replaced in the meantime; trigger a new run"
                    )
        except ObjectNotFound as error:
            raise CheckpointNotFound(
                f"{location.uri} does not exist: job {job_id} has stored no {kind}.pt"
            ) from error
        self._writer.meet(location, object_.etag)
        return replace(stored, path=str(to))

    def require_checkpoint(self, uri: str) -> Contents:
        """Inspect the checkpoint at `uri`, in any bucket, without running it.

        Only a file that fails the inspection is read completely. Raises ObjectNotFound, UnsafeCheckpoint if
        training would refuse the file, and the other StoreErrors.
        """
        location = S3Location.parse(uri)
        head = head_object(self._bucket.client, location)
        if head is None:
            raise ObjectNotFound(f"{uri} does not exist at {self._bucket.endpoint}")
        return inspect_object(self._bucket.client, location, head["ContentLength"], head["ETag"])

    def fetch_object(self, uri: str, to: Path, sha256: str | None = None) -> Path:
        """Download a model, to be trained further or evaluated, to the file `to`; return `to`.

        If the object has this project's checksum, the bytes are compared with it. If `sha256` is given, they
        must match that, too. Raises CorruptObject, and UnsafeCheckpoint if the object is too large.
        """
        try:
            with download(self._bucket.client, S3Location.parse(uri), to, WEIGHTS_BYTES, sha256) as object_:
                stored = parse_checkpoint(object_.metadata, uri, object_.size)
                if stored:
                    require_recorded_bytes(uri, object_.sha256, stored.sha256)
                if sha256 and object_.sha256 != sha256:
                    raise CorruptObject(
                        f"{uri} holds SHA-256 {object_.sha256}, but the job started from {sha256}: the file "
                        "has been replaced since then. Restore it, or use another job_id to train from the "
                        "current file"
                    )
        except ObjectTooLarge as error:
            require_loadable_size(uri, error.size)
            raise
        return to

    def _store(
        self,
        checkpoint: Checkpoint,
        job_id: str,
        kind: CheckpointKind,
        version: str,
        keep_previous: bool,
        keep_parts: bool,
        replace_damaged: bool,
    ) -> UploadResult:
        location = self.locate(job_id, kind)
        existing = self._writer.find(location)
        if existing and existing.is_the_same_as(checkpoint) and not replace_damaged:
            self._writer.accept(location, existing)
            return UploadResult(existing, was_sent=False)
        file = self._read(checkpoint, location)
        fence = self.locate(job_id, "last") if kind == "best" else None
        self._writer.require_unchanged(location, existing, fence)
        if existing and existing.checkpoint is None:
            log.warning("%s was not written by this project; replacing it.", location.uri)
        if kind == "last" and existing and keep_previous:
            self._keep_previous(job_id, existing)
        metadata = build_metadata(checkpoint, job_id, self._run_id, version)
        stored = self._writer.put(file, location, metadata, fence, keep_parts=keep_parts)
        return UploadResult(stored, was_sent=True)

    def _read(self, checkpoint: Checkpoint, location: S3Location) -> LocalFile:
        try:
            file = LocalFile.read(Path(checkpoint.path), self._limits, checkpoint.sha256)
        except FileNotFoundError as error:
            raise LocalFileMissing(
                f"{checkpoint.path} is not on this machine, and {location.uri} is missing or has different "
                f"contents (expected SHA-256 {checkpoint.sha256}); clear the task `train` of this run to "
                "create the file again"
            ) from error
        if (file.sha256, file.size) != (checkpoint.sha256, checkpoint.size):
            raise build_change_error(checkpoint.path, checkpoint.sha256)
        return file

    def _keep_previous(self, job_id: str, existing: StoredCheckpoint) -> None:
        last, previous = self.locate(job_id, "last"), self.locate(job_id, "last.previous")
        self._writer.look(previous)
        try:
            self._writer.copy(last, existing.etag, existing.size, previous, existing.metadata)
        except SourceChanged:
            raise
        except FencedOut as error:
            raise StoreBusy(
                f"Another attempt wrote {previous.uri} at the same moment, although this one still owns the "
                "job; try again"
            ) from error

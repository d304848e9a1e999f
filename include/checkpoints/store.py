"""Where checkpoints live: one place per job and kind, one writer at a time, verified at both ends."""

from __future__ import annotations

import logging
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.client import client_config
from include.checkpoints.errors import (
    CheckpointNotFound,
    CorruptCheckpoint,
    FencedOut,
    ForeignObject,
    LocalFileChanged,
    LocalFileMissing,
    ObjectNotFound,
    StoreError,
    StoreRefusal,
    explained,
    is_condition_failed,
    is_not_found,
    is_wrong_bytes,
)
from include.checkpoints.fetching import fetched
from include.checkpoints.location import JOB_ID, JOB_ID_RULE, S3Location
from include.checkpoints.metadata import checkpoint_in, metadata_of
from include.checkpoints.sending import LocalFile, TransferLimits, copy, send
from include.checkpoints.stored import StoredCheckpoint, head_object, stored_checkpoint

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import HeadObjectOutputTypeDef

    from include.checkpoints.checkpoint import CheckpointKind
    from include.checkpoints.sending import Condition

__all__ = ["CheckpointStore", "StoreError", "StoreRefusal", "StoredCheckpoint", "Upload", "client_config"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Upload:
    """What `upload` did: sent is False where the right bytes were there already. size is in bytes."""

    stored: StoredCheckpoint
    size: int
    sent: bool
    seconds: float

    @property
    def bytes_per_second(self) -> float:
        """Throughput from the beginning of the hashing to the verified object; 0 if nothing was sent."""
        return self.size / self.seconds if self.sent else 0.0


class CheckpointStore:
    """The checkpoints of all jobs in one bucket.

    One store is one writer. It remembers each object as it first saw it, and writes only over that or over
    what it wrote itself; if another attempt wrote in between, it raises FencedOut and changes nothing.
    Several threads may use it for different checkpoints.
    """

    def __init__(
        self, client: S3Client, bucket: str, limits: TransferLimits | None = None, run_id: str | None = None
    ) -> None:
        self._client = client
        self._bucket = bucket
        self._run_id = run_id
        self._limits = limits or TransferLimits()
        self._seen: dict[str, str | None] = {}

    def key(self, job_id: str, kind: CheckpointKind) -> str:
        """`checkpoints/{job_id}/best.pt` or `last.pt`; raises ValueError for an impossible job id."""
        return self._location(job_id, f"{kind}.pt").key

    def uri(self, job_id: str, kind: CheckpointKind) -> str:
        """The s3:// address of `key`."""
        return self._location(job_id, f"{kind}.pt").uri

    def head(self, job_id: str, kind: CheckpointKind) -> StoredCheckpoint | None:
        """What is at the checkpoint's place, from the object's metadata; None if nothing is."""
        location = self._location(job_id, f"{kind}.pt")
        return self._meet(location, head_object(self._client, location))

    def holds(self, job_id: str, kind: CheckpointKind, wanted: Checkpoint) -> bool:
        """The bytes of `wanted` are at the checkpoint's place."""
        stored = self.head(job_id, kind)
        return stored is not None and stored.is_the_same_as(wanted)

    def verify(self, job_id: str, kind: CheckpointKind, wanted: Checkpoint) -> StoredCheckpoint:
        """Return what is stored; raises CheckpointNotFound, or CorruptCheckpoint if it is not `wanted`."""
        stored = self.head(job_id, kind)
        if stored is None:
            raise CheckpointNotFound(f"{self.uri(job_id, kind)} does not exist")
        if not stored.is_the_same_as(wanted):
            raise CorruptCheckpoint(
                f"{stored.uri} holds {stored}; expected were SHA-256 {wanted.sha256}, {wanted.size} bytes"
            )
        return stored

    def upload(
        self, checkpoint: Checkpoint, job_id: str, kind: CheckpointKind, ultralytics_version: str
    ) -> Upload:
        """Make the local file `checkpoint` the job's best or last; nothing is sent if it is that already.

        A last.pt that is replaced is kept as last.previous.pt. Raises LocalFileMissing (neither here nor in
        S3), LocalFileChanged, FencedOut and the other StoreErrors; then the object is as it was.
        """
        started = time.monotonic()
        location = self._location(job_id, f"{kind}.pt")
        head = head_object(self._client, location)
        there = self._meet(location, head)
        if there and there.is_the_same_as(checkpoint):
            self._seen[location.key] = there.etag
            log.info("%s holds these bytes already (%s); nothing sent.", location.uri, there)
            return Upload(there, checkpoint.size, sent=False, seconds=time.monotonic() - started)
        file = self._read(checkpoint, location)
        self._require_unchanged(location, there)
        if kind == "last" and head:
            self._copy(location, self._location(job_id, "last.previous.pt"), head)
        self._send(file, location, metadata_of(checkpoint, job_id, self._run_id, ultralytics_version))
        stored = self._verify_sent(file, location)
        upload = Upload(stored, file.size, sent=True, seconds=time.monotonic() - started)
        speed = upload.bytes_per_second / 1e6
        log.info("Uploaded %s in %.1f s, %.1f MB/s: %s.", location.uri, upload.seconds, speed, stored)
        return upload

    def download(
        self, job_id: str, kind: CheckpointKind, to: Path, expected: Checkpoint | None = None
    ) -> Checkpoint:
        """Bring the checkpoint to the file `to`, which appears only if every byte is right.

        Raises CheckpointNotFound, ForeignObject (no checksum to check by), CorruptCheckpoint (damaged, or not
        `expected`) and LocalDiskError; all name the object.
        """
        location = self._location(job_id, f"{kind}.pt")
        try:
            with fetched(self._client, location, to) as object_:
                stored = checkpoint_in(object_.metadata, location.uri, object_.size)
                if stored is None:
                    raise ForeignObject(
                        f"{location.uri} was not written by this project: it carries no sha256 to check it "
                        "by; start a new job with that file as `model` instead"
                    )
                _require_whole(location.uri, object_.sha256, stored.sha256)
                if expected and stored.sha256 != expected.sha256:
                    raise CorruptCheckpoint(
                        f"{location.uri} holds SHA-256 {stored.sha256}, but {expected.sha256} was expected: "
                        "somebody replaced it meanwhile; trigger a new run"
                    )
        except ObjectNotFound as error:
            raise CheckpointNotFound(
                f"{location.uri} does not exist: job {job_id} has stored no {kind}.pt"
            ) from error
        self._seen.setdefault(location.key, object_.etag)
        return Checkpoint(path=str(to), sha256=stored.sha256, size=stored.size, epoch=stored.epoch)

    def require_object(self, uri: str) -> None:
        """Raise ObjectNotFound unless there is an object at `uri`, in any bucket."""
        location = S3Location.parse(uri)
        if head_object(self._client, location) is None:
            raise ObjectNotFound(f"{uri} does not exist at {self._client.meta.endpoint_url}")

    def fetch_object(self, uri: str, to: Path) -> Path:
        """Download any object, such as a model to start from, to the file `to`.

        Its bytes are checked if it carries our checksum.
        """
        with fetched(self._client, S3Location.parse(uri), to) as object_:
            stored = checkpoint_in(object_.metadata, uri, object_.size)
            if stored:
                _require_whole(uri, object_.sha256, stored.sha256)
        return to

    def _location(self, job_id: str, name: str) -> S3Location:
        if not re.match(JOB_ID, job_id):
            raise ValueError(f"job_id={job_id!r} cannot name a checkpoint: it must be {JOB_ID_RULE}")
        return S3Location(self._bucket, f"checkpoints/{job_id}/{name}")

    def _meet(self, location: S3Location, head: HeadObjectOutputTypeDef | None) -> StoredCheckpoint | None:
        """Describe what is there, and remember it if this store had not looked yet."""
        self._seen.setdefault(location.key, head["ETag"] if head else None)
        return stored_checkpoint(location, head) if head else None

    def _read(self, checkpoint: Checkpoint, location: S3Location) -> LocalFile:
        try:
            file = LocalFile.read(Path(checkpoint.path), self._limits)
        except FileNotFoundError as error:
            raise LocalFileMissing(
                f"{checkpoint.path} is not on this machine, and {location.uri} does not hold it (SHA-256 "
                f"{checkpoint.sha256}); clear the task `train` of this run, then it is made again"
            ) from error
        if file.sha256 != checkpoint.sha256:
            raise _changed(checkpoint.path, checkpoint.sha256)
        return file

    def _require_unchanged(self, location: S3Location, there: StoredCheckpoint | None) -> None:
        if self._seen[location.key] != (there.etag if there else None):
            raise _fenced(location, there)
        if there and there.checkpoint is None:
            log.warning("%s was not written by this project; it is replaced.", location.uri)

    def _copy(self, location: S3Location, to: S3Location, head: HeadObjectOutputTypeDef) -> None:
        from botocore.exceptions import ClientError

        with explained(self._client, location):
            try:
                copy(self._client, location, to, head, self._limits)
            except ClientError as error:
                if is_condition_failed(error) or is_not_found(error):
                    raise _fenced(location, self._there_now(location)) from error
                raise

    def _send(self, file: LocalFile, location: S3Location, metadata: dict[str, str]) -> None:
        from botocore.exceptions import ClientError

        seen = self._seen[location.key]
        condition: Condition = {"IfMatch": seen} if seen else {"IfNoneMatch": "*"}
        with explained(self._client, location):
            try:
                etag = send(self._client, file, location, metadata, condition, self._limits)
            except ClientError as error:
                if is_wrong_bytes(error):
                    raise _changed(str(file.path), file.sha256) from error
                if not (is_condition_failed(error) or is_not_found(error)):
                    raise
                there = self._there_now(location)
                if not (there and there.checkpoint and there.checkpoint.sha256 == file.sha256):
                    raise _fenced(location, there) from error
                # The write had succeeded and its answer was lost: boto3 tried again and met our own object.
                etag = there.etag
        self._seen[location.key] = etag

    def _verify_sent(self, file: LocalFile, location: S3Location) -> StoredCheckpoint:
        head = head_object(self._client, location)
        if head is None or head["ETag"] != self._seen[location.key]:
            raise _fenced(location, stored_checkpoint(location, head) if head else None)
        stored = stored_checkpoint(location, head)
        there = stored.checkpoint
        # Some servers check the checksum on the way in, but keep none to show.
        checksum = head.get("ChecksumSHA256", file.stored_checksum)
        if (
            there is None
            or (there.sha256, there.size) != (file.sha256, file.size)
            or checksum != file.stored_checksum
        ):
            raise CorruptCheckpoint(
                f"{location.uri} is not what was sent ({file.size} bytes, SHA-256 {file.sha256}): the "
                f"server has {stored}, checksum {checksum}; check the S3 server, then clear this task"
            )
        return stored

    def _there_now(self, location: S3Location) -> StoredCheckpoint | None:
        head = head_object(self._client, location)
        return stored_checkpoint(location, head) if head else None


def _require_whole(uri: str, found: str, stored: str) -> None:
    if found != stored:
        raise CorruptCheckpoint(
            f"{uri} is damaged: its bytes have SHA-256 {found}, but {stored} was stored; restore it from a "
            "backup or another generation, or train again"
        )


def _changed(path: str, expected: str) -> LocalFileChanged:
    return LocalFileChanged(
        f"{path} has changed since the training handed it over: its SHA-256 is not {expected} any more; "
        "nothing was stored. Clear the task `train` of this run, then it is made again"
    )


def _fenced(location: S3Location, there: StoredCheckpoint | None) -> FencedOut:
    return FencedOut(
        f"{location.uri} was changed by another attempt since this one last saw it (now: "
        f"{there or 'nothing'}): that attempt owns the job. This one stops and has overwritten nothing"
    )

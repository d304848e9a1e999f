"""Checkpoints in S3: an object's user metadata identify the checkpoint, as ASCII text.

Keys of metadata have hyphens, because proxies in front of S3 servers drop header names with underscores.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from include.checkpoints.checkpoint import Checkpoint, name_position
from include.s3.errors import CorruptObject
from include.s3.reading import head_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

    from include.s3.location import S3Location

SEEDED_FROM = "seeded-from"
"""Metadata key for the job from which a checkpoint was copied within S3."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
_EPOCH = re.compile(r"-?\d{1,9}")
_BATCH = re.compile(r"\d{1,9}")


@dataclass(frozen=True)
class StoredCheckpoint:
    """An object under a checkpoint's key."""

    uri: str
    """Address of the object, s3://bucket/key."""
    etag: str
    """The ETag with its quotes, as S3 returns it."""
    size: int
    """Size in bytes."""
    modified: datetime
    """When the object was written, by S3's clock."""
    metadata: Mapping[str, str]
    """All metadata of the object."""
    checksum: str | None
    """SHA-256 that the server stores, in S3's encoding; None if it stores none."""
    checkpoint: Checkpoint | None
    """The checkpoint that the metadata describe; None if this project did not write the object."""
    job_id: str | None
    """Job that the object belongs to, or whose best.pt was copied here; None if the metadata do not say."""
    run_id: str | None
    """Dag run that started the object's training run; it distinguishes training runs with the same job id."""
    ultralytics_version: str | None
    """Version of Ultralytics that saved the file; None if the metadata do not say."""
    seeded_from: str | None
    """Job from which the object was copied within S3; None if it was uploaded."""

    @property
    def sha256(self) -> str | None:
        """Hash of the bytes according to the metadata; None if this project did not write the object."""
        return self.checkpoint.sha256 if self.checkpoint else None

    def is_the_same_as(self, wanted: Checkpoint) -> bool:
        """Return whether the object holds the same bytes as `wanted`."""
        return (self.sha256, self.size) == (wanted.sha256, wanted.size)

    def __str__(self) -> str:
        checkpoint = self.checkpoint
        if checkpoint is None:
            return "an object that this project did not write"
        return f"{name_position(checkpoint.position)}, SHA-256 {checkpoint.sha256}, {checkpoint.size} bytes"


@dataclass(frozen=True)
class UploadResult:
    """Result of an upload."""

    stored: StoredCheckpoint
    """The object that S3 now has."""
    was_sent: bool
    """Whether the bytes were sent; False if S3 already had them."""


def find_checkpoint(client: S3Client, location: S3Location) -> StoredCheckpoint | None:
    """Return the checkpoint at that location; None if there is no object. Raises StoreErrors."""
    head = head_object(client, location)
    if head is None:
        return None
    metadata = head["Metadata"]
    return StoredCheckpoint(
        uri=location.uri,
        etag=head["ETag"],
        size=head["ContentLength"],
        modified=head["LastModified"],
        metadata=metadata,
        checksum=head.get("ChecksumSHA256"),
        checkpoint=parse_checkpoint(metadata, location.uri, head["ContentLength"]),
        job_id=metadata.get("job-id"),
        run_id=parse_run_id(metadata),
        ultralytics_version=metadata.get("ultralytics-version"),
        seeded_from=metadata.get(SEEDED_FROM),
    )


def build_metadata(
    checkpoint: Checkpoint, job_id: str, run_id: str | None, ultralytics_version: str
) -> dict[str, str]:
    """Return the metadata that are stored with `checkpoint`.

    `run_id` is quoted because it may contain any character.
    """
    metadata = {
        "sha256": checkpoint.sha256,
        "epoch": str(checkpoint.epoch),
        "job-id": job_id,
        "ultralytics-version": ultralytics_version,
    }
    if checkpoint.batch:
        metadata["batch"] = str(checkpoint.batch)
    return metadata | ({"run-id": quote(run_id)} if run_id else {})


def reassign_metadata(metadata: Mapping[str, str], job_id: str, run_id: str | None) -> dict[str, str]:
    """Return the metadata of a copy that belongs to another job than the original object."""
    kept = {key: value for key, value in metadata.items() if key not in {"run-id", SEEDED_FROM}}
    return kept | {"job-id": job_id} | ({"run-id": quote(run_id)} if run_id else {})


def parse_checkpoint(metadata: Mapping[str, str], uri: str, size: int) -> Checkpoint | None:
    """Return the checkpoint that the metadata of an object of `size` bytes describe.

    Returns None if this project did not write the metadata.
    """
    sha256, epoch, batch = metadata.get("sha256", ""), metadata.get("epoch", ""), metadata.get("batch", "0")
    if not (_SHA256.fullmatch(sha256) and _EPOCH.fullmatch(epoch) and _BATCH.fullmatch(batch)):
        return None
    return Checkpoint(path=uri, sha256=sha256, size=size, epoch=int(epoch), batch=int(batch))


def parse_run_id(metadata: Mapping[str, str]) -> str | None:
    """Return the Dag run that started the training run; None if it is unknown."""
    return unquote(metadata.get("run-id", "")) or None


def require_recorded_bytes(uri: str, found: str, recorded: str) -> None:
    """Raise CorruptObject unless the SHA-256 of an object's bytes is the one in its metadata."""
    if found != recorded:
        raise CorruptObject(
            f"{uri} is damaged: its bytes have SHA-256 {found}, but its metadata say {recorded}; restore it "
            "from a backup or from an older copy, or train again"
        )

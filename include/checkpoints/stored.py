"""A checkpoint in S3, as HeadObject describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.checkpoints.checkpoint import name_position
from include.checkpoints.metadata import SEEDED_FROM, parse_checkpoint, parse_run_id
from include.s3.reading import head_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

    from include.checkpoints.checkpoint import Checkpoint
    from include.s3.location import S3Location


@dataclass(frozen=True)
class StoredCheckpoint:
    """An object under a checkpoint's key."""

    uri: str
    """Address of the object, s3://bucket/key."""
    etag: str
    """The ETag with its quotes, as S3 returns it."""
    size: int
    """Size in bytes."""
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
        metadata=metadata,
        checksum=head.get("ChecksumSHA256"),
        checkpoint=parse_checkpoint(metadata, location.uri, head["ContentLength"]),
        job_id=metadata.get("job-id"),
        run_id=parse_run_id(metadata),
        ultralytics_version=metadata.get("ultralytics-version"),
        seeded_from=metadata.get(SEEDED_FROM),
    )

"""A checkpoint in S3 as HeadObject describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.checkpoints.checkpoint import in_words
from include.checkpoints.metadata import SEEDED_FROM, checkpoint_in, run_id_in
from include.s3.reading import head_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_s3 import S3Client

    from include.checkpoints.checkpoint import Checkpoint
    from include.s3.location import S3Location


@dataclass(frozen=True)
class StoredCheckpoint:
    """An object under a checkpoint's key. checkpoint is None if this project did not write it.

    size is in bytes. checksum is the SHA-256 that the server keeps, in the encoding of S3; None if it keeps
    none. run_id is the Dag run that started the object's training run: it distinguishes training runs of the
    same job id. seeded_from is the job from which the object was copied, if this job started from the state
    of another job.
    """

    uri: str
    etag: str
    size: int
    metadata: Mapping[str, str]
    checksum: str | None
    checkpoint: Checkpoint | None
    job_id: str | None
    run_id: str | None
    ultralytics_version: str | None
    seeded_from: str | None

    @property
    def sha256(self) -> str | None:
        """Hash of the bytes according to the metadata; None if this project did not write the object."""
        return self.checkpoint.sha256 if self.checkpoint else None

    def is_the_same_as(self, wanted: Checkpoint) -> bool:
        """Say whether the object holds the same bytes as `wanted`."""
        return (self.sha256, self.size) == (wanted.sha256, wanted.size)

    def __str__(self) -> str:
        own = self.checkpoint
        if own is None:
            return "an object that this project did not write"
        return f"{in_words(own.position)}, SHA-256 {own.sha256}, {own.size} bytes"


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
        checkpoint=checkpoint_in(metadata, location.uri, head["ContentLength"]),
        job_id=metadata.get("job-id"),
        run_id=run_id_in(metadata),
        ultralytics_version=metadata.get("ultralytics-version"),
        seeded_from=metadata.get(SEEDED_FROM),
    )

"""What can be wrong with a checkpoint in S3, beside what can go wrong with any object."""

from __future__ import annotations

from include.s3.errors import ObjectNotFound, StoreRefusal


class CheckpointNotFound(ObjectNotFound):
    """The job has no checkpoint of this kind in S3."""


class UnsafeCheckpoint(StoreRefusal):
    """The object is no checkpoint that may be loaded: it could run code or fill the memory, or is none."""

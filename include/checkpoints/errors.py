"""Errors about checkpoints in S3, in addition to the errors about any S3 object."""

from __future__ import annotations

from include.s3.errors import ObjectNotFound, StoreRefusal


class CheckpointNotFound(ObjectNotFound):
    """The job has no checkpoint of this kind in S3."""


class UnsafeCheckpoint(StoreRefusal):
    """The object must not be loaded: it is not a checkpoint, or it could run code or exhaust the memory."""

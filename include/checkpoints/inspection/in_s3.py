"""Inspects a checkpoint in S3 without downloading it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.checkpoints.errors import UnsafeCheckpoint
from include.checkpoints.inspection.errors import InspectionError
from include.checkpoints.inspection.inspect import inspect_checkpoint
from include.limits import WEIGHTS_BYTES
from include.s3.reading import ObjectSource, read_settled_object

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.checkpoints.inspection.contents import Contents
    from include.s3.location import S3Location


def inspect_object(client: S3Client, location: S3Location, size: int, etag: str) -> Contents:
    """Describe the checkpoint in S3, of `size` bytes, without reading its weights.

    Only a file that fails the inspection is read completely: its bytes are verified, and it is inspected
    again. Raises UnsafeCheckpoint if the object fails again, or is larger than initial weights may be;
    CorruptObject if the object no longer has that ETag; and other StoreErrors.
    """
    require_loadable_size(location.uri, size)
    source = ObjectSource(client, location, size, etag)
    try:
        return inspect_checkpoint(source)
    except InspectionError:
        read_settled_object(client, location)
    try:
        return inspect_checkpoint(source)
    except InspectionError as error:
        raise UnsafeCheckpoint(f"{location.uri} {error}") from error


def require_loadable_size(uri: str, size: int) -> None:
    """Raise UnsafeCheckpoint if the object is larger than initial weights may be."""
    if size > WEIGHTS_BYTES:
        raise UnsafeCheckpoint(
            f"{uri} has {size:,} bytes, but initial weights may have at most {WEIGHTS_BYTES:,}; give a "
            "best.pt, which holds only the weights"
        )

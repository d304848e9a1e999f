"""Restoring a recorded object from a copy, after reading the copy and checking its SHA-256."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from include.audit.recorded import is_still_recorded
from include.checkpoints.checkpoint import name_position
from include.checkpoints.stored import find_checkpoint, reassign_metadata
from include.database import fetch_rows
from include.jobs.repository import JobRepository
from include.models.errors import ModelError
from include.models.objects import build_metadata, copy_verified, locate_production, locate_signature
from include.models.promotion import promote
from include.models.request import ChosenVersion
from include.s3.errors import BucketMissing, StoreError, StoreUnreachable
from include.s3.local_file import TransferLimits
from include.s3.location import S3Location
from include.s3.reading import head_object, read_object
from include.s3.upload import build_unchanged_condition

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from psycopg import Connection

    from include.audit.recorded import RecordedObject
    from include.models.signing import ModelSigning
    from include.s3.bucket import Bucket
    from include.s3.download import FetchedObject

log = logging.getLogger(__name__)


def restore_object(
    connection: Connection[Any], bucket: Bucket, recorded: RecordedObject, signing: ModelSigning
) -> str | None:
    """Restore the recorded object and return a description of the repair; None if it cannot be restored.

    An object is left alone if it has changed in the meantime (If-Match), or if its row no longer names it. A
    restored object is read back. Raises StoreUnreachable.
    """
    source: str | None
    try:
        if recorded.is_in_production:
            source = _promote_again(connection, bucket, recorded, signing)
        else:
            source = _copy_back(connection, bucket, recorded)
    except StoreUnreachable:
        raise
    except (ModelError, StoreError) as error:
        log.info("%s was not restored: %s", recorded.path, error)
        return None
    return source and f"restored from {source}, and verified by reading it back"


def _copy_back(connection: Connection[Any], bucket: Bucket, recorded: RecordedObject) -> str | None:
    """Replace the object with an intact copy, and return that copy's URI; None if there is none."""
    if (to := _parse_location(recorded.path)) is None:
        return None
    head = head_object(bucket.client, to)
    condition = build_unchanged_condition(head and head["ETag"])
    # If the job is taken over after this check, its new attempt replaces the object. The condition then no
    # longer holds, so S3 refuses the copy.
    if not is_still_recorded(connection, recorded):
        return None
    for source in _find_copies(connection, bucket, recorded):
        try:
            found = read_object(bucket.client, source)
            if found.sha256 != recorded.sha256:
                continue
            metadata = _choose_metadata(connection, found, recorded)
            copy_verified(bucket.client, source, found, to, metadata, TransferLimits(), condition)
        except StoreUnreachable:
            raise
        except StoreError as error:
            log.info("%s was not restored from %s: %s", recorded.path, source.uri, error)
        else:
            return source.uri
    return None


def describe_remedy(client: S3Client, recorded: RecordedObject) -> str:
    """Return a sentence that says what to do about an object that could not be restored."""
    if (previous := _locate_previous(recorded)) is not None:
        with suppress(BucketMissing):
            stored = find_checkpoint(client, previous)
            if stored and stored.checkpoint:
                position = name_position(stored.checkpoint.position)
                return (
                    f"The previous generation, {previous.uri}, holds the state after {position}; "
                    "docs/operations.md says how to return to that state"
                )
    return "No other copy with the recorded hash is known: restore the object from a backup, or train again"


def _promote_again(
    connection: Connection[Any], bucket: Bucket, recorded: RecordedObject, signing: ModelSigning
) -> str:
    """Promote the version in production again, which copies its file while holding the promotion lock.

    Returns the URI of the copied file.
    """
    assert recorded.name is not None  # noqa: S101 - it is a version
    assert recorded.version is not None  # noqa: S101
    present = ChosenVersion(
        name=recorded.name, version=recorded.version, expected=recorded.version, reason=None
    )
    return promote(connection, bucket, present, by=None, signing=signing).path


def _choose_metadata(
    connection: Connection[Any], found: FetchedObject, recorded: RecordedObject
) -> dict[str, str]:
    """Return the object's original metadata, which for a version's file includes the version.

    The copy may belong to another job: a job that continued this one without improving has the same best.pt.
    """
    if found.metadata.get("job-id") != recorded.job_id:
        job = JobRepository(connection).get(recorded.job_id)
        own = reassign_metadata(found.metadata, recorded.job_id, job.origin_run_id if job else None)
        found = replace(found, metadata=own)
    if recorded.name is not None and recorded.version is not None:
        return build_metadata(found, recorded.name, recorded.version)
    return {key: value for key, value in found.metadata.items() if key not in {"model", "model-version"}}


def _find_copies(
    connection: Connection[Any], bucket: Bucket, recorded: RecordedObject
) -> Iterator[S3Location]:
    """Yield the other locations that should hold the same bytes."""
    if (previous := _locate_previous(recorded)) is not None:
        yield previous
    for (path,) in fetch_rows(connection, "list_copies", sha256=recorded.sha256):
        if path != recorded.path and (location := _parse_location(path)) is not None:
            yield location
    if recorded.name is not None:
        production = locate_production(bucket, recorded.name)
        yield locate_signature(production) if recorded.kind == "signature" else production


def _parse_location(path: str) -> S3Location | None:
    """Return the location with this URI; None if it is not the URI of an object."""
    try:
        return S3Location.parse(path)
    except ValueError:
        return None


def _locate_previous(recorded: RecordedObject) -> S3Location | None:
    """Return the location of the previous generation of a last.pt; None for any other object."""
    location = _parse_location(recorded.path)
    if recorded.kind != "last" or location is None or not location.key.endswith("/last.pt"):
        return None
    return S3Location(location.bucket, f"{location.key.removesuffix('last.pt')}last.previous.pt")

"""Restoring a recorded object from a copy whose bytes were read and have the recorded SHA-256."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from include.audit.recorded import still_recorded
from include.checkpoints.checkpoint import in_words
from include.checkpoints.stored import find_checkpoint
from include.database import Statements
from include.models.errors import ModelError
from include.models.objects import identity_of, place, production_location, signature_of
from include.models.promotion import promote
from include.models.request import ChosenVersion
from include.s3.errors import BucketMissing, StoreError, StoreUnreachable
from include.s3.location import S3Location
from include.s3.reading import head_object, read_object
from include.s3.upload import TransferLimits, unless_changed_since

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from psycopg import Connection

    from include.audit.recorded import RecordedObject
    from include.models.signing import ModelSigning
    from include.s3.bucket import Bucket
    from include.s3.download import FetchedObject
    from include.s3.upload import Condition

log = logging.getLogger(__name__)


def restore(
    connection: Connection[Any], bucket: Bucket, recorded: RecordedObject, signing: ModelSigning
) -> str | None:
    """Restore the recorded object and return a description of the repair; None if it is impossible.

    Only the damaged object is replaced (If-Match), and the restored one is read back. Nothing is restored if
    the row no longer names the object. Raises StoreUnreachable.
    """
    if recorded.is_in_production:
        return _promoted_again(connection, bucket, recorded, signing)
    if (to := _location(recorded)) is None or (condition := _condition(bucket.client, to)) is None:
        return None
    # If the job is taken over after this check, its new attempt replaces the object that the condition names.
    if not still_recorded(connection, recorded):
        return None
    for source in _copies(connection, bucket, recorded):
        try:
            found = read_object(bucket.client, source)
            if found.sha256 != recorded.sha256:
                continue
            metadata = _identity(found, recorded)
            place(bucket.client, source, found, to, metadata, TransferLimits(), condition)
        except StoreUnreachable:
            raise
        except StoreError as error:
            log.info("%s was not restored from %s: %s", recorded.path, source.uri, error)
        else:
            return _done(source.uri)
    return None


def _condition(client: S3Client, location: S3Location) -> Condition | None:
    """Return the condition that the present object is still there, or still missing; None if S3 refuses."""
    try:
        head = head_object(client, location)
    except StoreUnreachable:
        raise
    except StoreError as error:
        log.info("%s was not restored: %s", location.uri, error)
        return None
    return unless_changed_since(head and head["ETag"])


def advice(client: S3Client, recorded: RecordedObject) -> str:
    """Return advice for a person, as a sentence, about an object that could not be restored."""
    if recorded.kind == "last" and (before := _previous(recorded)) is not None:
        with suppress(BucketMissing):
            stored = find_checkpoint(client, before)
            if stored and stored.checkpoint:
                position = in_words(stored.checkpoint.position)
                return (
                    f"The previous generation exists, {before.uri} after {position}: "
                    "docs/operations.md says how to go back to it"
                )
    return "No other copy with the recorded bytes is known: restore it from a backup, or train again"


def _promoted_again(
    connection: Connection[Any], bucket: Bucket, recorded: RecordedObject, signing: ModelSigning
) -> str | None:
    """Promote the version in production again, which copies its file again under the lock of promotions."""
    assert recorded.name is not None  # noqa: S101 - it is a version
    assert recorded.version is not None  # noqa: S101
    present = ChosenVersion(
        name=recorded.name, version=recorded.version, expected=recorded.version, reason=None
    )
    try:
        again = promote(connection, bucket, present, by=None, signing=signing)
    except StoreUnreachable:
        raise
    except (ModelError, StoreError) as error:
        log.info("%s was not restored: %s", recorded.path, error)
        return None
    return _done(again.path)


def _done(source: str) -> str:
    return f"copied again from {source}, whose bytes are the recorded ones, and read back"


def _identity(found: FetchedObject, recorded: RecordedObject) -> dict[str, str]:
    """Return the original metadata of the object: those of a version's file also name the version."""
    if recorded.name is not None and recorded.version is not None:
        return identity_of(found, recorded.name, recorded.version)
    return {key: value for key, value in found.metadata.items() if key not in {"model", "model-version"}}


def _copies(connection: Connection[Any], bucket: Bucket, recorded: RecordedObject) -> Iterator[S3Location]:
    """Yield the other locations that should hold the same bytes."""
    if recorded.kind == "last" and (before := _previous(recorded)) is not None:
        yield before
    with connection.transaction():
        rows = Statements(connection).rows("list_copies", sha256=recorded.sha256)
    for (path,) in rows:
        try:
            location = S3Location.parse(path)
        except ValueError:
            continue
        if path != recorded.path:
            yield location
    if recorded.name is not None:
        production = production_location(bucket, recorded.name)
        yield signature_of(production) if recorded.kind == "signature" else production


def _location(recorded: RecordedObject) -> S3Location | None:
    """Return the location of the object; None if the recorded path is not the address of an object."""
    try:
        return S3Location.parse(recorded.path)
    except ValueError:
        return None


def _previous(recorded: RecordedObject) -> S3Location | None:
    if (location := _location(recorded)) is None:
        return None
    stem = location.key.removesuffix("/last.pt")
    return S3Location(location.bucket, f"{stem}/last.previous.pt") if stem != location.key else None

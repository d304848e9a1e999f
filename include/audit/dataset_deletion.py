"""Deleting a version of a dataset, with the objects that only it uses."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from include.audit.deletion import Deletion
from include.database import Statements
from include.registry.errors import DatasetNeeded
from include.s3.layout import (
    DATASETS,
    DIFFERENCES,
    UPLOADS,
    converted_prefix,
    manifest_key,
    samples_prefix,
    version_report_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

    from include.registry.version import DatasetVersion
    from include.s3.bucket import Bucket
    from include.s3.listing import ListedObject


def delete_version(connection: Connection[Any], bucket: Bucket, version: DatasetVersion) -> Deletion:
    """Delete the version's row, then the objects that nothing else uses.

    The row goes first, so that no row names missing objects. If it is interrupted, the audit finds the rest.
    Raises DatasetNeeded, and StoreErrors.
    """
    upload, copy = find_upload(bucket, version), _find_copy(bucket, version)
    statements = Statements(connection)
    named = {"name": version.name, "version": version.version}
    with connection.transaction():
        statements.row("lock_dataset_version", **named)
        _refuse_needed(version, statements.row("find_dataset_uses", **named))
        statements.changed("delete_dataset_version", **named)
        shared = statements.row(
            "find_dataset_sharers",
            fingerprint=version.fingerprint,
            task=version.task,
            origin=version.origin,
            copy=copy,
            copy_uri=copy and bucket.at(converted_prefix(copy)).uri,
            upload=upload and bucket.at(upload).uri,
        )
    upload = None if shared.upload else upload
    copy = None if shared.copied else copy
    objects = size = 0
    for item in _find_own_objects(bucket, version, upload, copy, derived=not shared.derived):
        if bucket.delete_listed(item):
            objects, size = objects + 1, size + item.size
    return Deletion(objects, size)


def find_upload(bucket: Bucket, version: DatasetVersion) -> str | None:
    """Return the prefix of the upload that the version came from; None if it was not uploaded here."""
    uploads = re.escape(bucket.at(UPLOADS).uri)
    for place in (version.origin, version.source):
        if found := re.match(rf"{uploads}[^/]+/", place or ""):
            return found[0].removeprefix(bucket.at("").uri)
    return None


def _find_copy(bucket: Bucket, version: DatasetVersion) -> str | None:
    """Return the name of the prefix of the converted copy; None if the version was not converted.

    It is the fingerprint, unless ETags are no MD5s.
    """
    found = re.match(rf"{re.escape(bucket.at(DATASETS).uri)}([0-9a-f]{{64}})/", version.source)
    return found[1] if found else None


def _refuse_needed(version: DatasetVersion, needed: Any) -> None:
    if needed.jobs:
        raise DatasetNeeded(
            f"{version} cannot be deleted: {', '.join(needed.jobs)} was trained on it. Delete such jobs "
            "first, or archive the version instead"
        )
    if needed.models:
        raise DatasetNeeded(
            f"{version} cannot be deleted: model {', '.join(needed.models)}, which is in production, was "
            "trained on it. Archive the version instead"
        )


def _find_own_objects(
    bucket: Bucket, version: DatasetVersion, upload: str | None, copy: str | None, *, derived: bool
) -> Iterator[ListedObject]:
    """Yield the objects of a deleted version: its upload, its converted copy, and what was derived from it.

    The listing stays: it is small, and a job that was given the address itself may go on with it.
    """
    prefixes = [upload] if upload else []
    if copy:
        prefixes.append(converted_prefix(copy))
    if derived:
        prefixes += [
            manifest_key(version.fingerprint, version.task),
            version_report_key(version.fingerprint, version.task),
            samples_prefix(version.fingerprint, version.task),
        ]
    for prefix in prefixes:
        yield from bucket.objects(prefix)
    if derived:
        own = f"{version.fingerprint}-{version.task}"
        yield from (item for item in bucket.objects(DIFFERENCES) if own in item.location.key)

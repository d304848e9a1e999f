"""Deleting a version of a dataset, and the objects that only this version uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.audit.deletion import Deletion
from include.database import Statements
from include.datasets.uploads.errors import UploadUnknown
from include.datasets.uploads.store import UploadStore
from include.registry.errors import DatasetNeeded
from include.registry.objects import DatasetObjects
from include.s3.layout import (
    DIFFERENCES,
    build_converted_prefix,
    build_manifest_key,
    build_samples_prefix,
    build_upload_prefix,
    build_version_report_key,
)
from include.time_limited_connection import long_transaction

if TYPE_CHECKING:
    from collections.abc import Iterator

    from psycopg import Connection

    from include.registry.version import DatasetVersion
    from include.s3.bucket import Bucket
    from include.ultralytics_tasks import Task


def require_deletable_version(connection: Connection[Any], version: DatasetVersion) -> None:
    """Raise DatasetNeeded if a job, or a model in production, was trained on the version."""
    with connection.transaction():
        needed = Statements(connection).fetch_one(
            "find_dataset_uses", name=version.name, version=version.version
        )
    _refuse_needed(version, needed)


def delete_version(connection: Connection[Any], version: DatasetVersion) -> None:
    """Delete the version's row; `delete_unused_objects` then deletes its objects.

    The row is deleted first, so that no row refers to missing objects. Raises DatasetNeeded.
    """
    statements = Statements(connection)
    named = {"name": version.name, "version": version.version}
    with connection.transaction():
        statements.fetch_one("lock_dataset_version", **named)
        _refuse_needed(version, statements.fetch_one("find_dataset_uses", **named))
        statements.execute("delete_dataset_version", **named)


def delete_unused_objects(connection: Connection[Any], bucket: Bucket, version: DatasetVersion) -> Deletion:
    """Delete the objects of a deleted version, unless something else uses them.

    Repeating the deletion is safe. Raises StoreErrors.
    """
    objects = DatasetObjects.of(bucket, version)
    # A concurrent registration of the same objects either comes first, and the query below finds it, or comes
    # later and finds that the objects are missing.
    with long_transaction(connection):  # the query may read every job
        objects.lock(connection)
        copy = objects.copy
        upload = objects.upload_id and build_upload_prefix(objects.upload_id)
        shared = Statements(connection).fetch_one(
            "find_dataset_sharers",
            fingerprint=version.fingerprint,
            task=version.task,
            origin=version.origin,
            copy=copy,
            copy_uri=copy and bucket.at(build_converted_prefix(copy)).uri,
            upload=upload and bucket.at(upload).uri,
        )
        deleted: list[tuple[int, int]] = []
        if objects.upload_id and not shared.upload:
            deleted.append(_delete_upload(bucket, version, objects.upload_id))
        if copy and not shared.copied:
            deleted.append(bucket.delete_below(build_converted_prefix(copy)))
        if not shared.derived:
            deleted += _delete_derived(bucket, version.fingerprint, version.task)
    return Deletion(sum(number for number, _ in deleted), sum(size for _, size in deleted))


def _refuse_needed(version: DatasetVersion, needed: Any) -> None:
    if needed.jobs:
        raise DatasetNeeded(
            f"{version} cannot be deleted, because these jobs were trained on it: {', '.join(needed.jobs)}. "
            "Delete these jobs first, or archive the version instead"
        )
    if needed.models:
        raise DatasetNeeded(
            f"{version} cannot be deleted, because these models in production were trained on it: "
            f"{', '.join(needed.models)}. Archive the version instead"
        )


def _delete_upload(bucket: Bucket, version: DatasetVersion, upload_id: str) -> tuple[int, int]:
    """Delete the upload, but only if the user who registered the version also uploaded the data.

    Anyone can register another user's upload; deleting such a version must not delete the upload.
    """
    uploads = UploadStore(bucket)
    try:
        upload = uploads.find(upload_id)
        return uploads.remove(upload) if upload.created_by == version.created_by else (0, 0)
    except UploadUnknown:  # already removed, or another process is removing it
        return 0, 0


def _delete_derived(bucket: Bucket, fingerprint: str, task: Task) -> Iterator[tuple[int, int]]:
    """Delete the objects derived from the content, except its listing, which a job may need to continue.

    A check stores the manifest before the other objects; this function deletes the manifest after them. If
    this function deletes any object of a running check, it therefore deletes that check's manifest too.
    Without a manifest, the content cannot be registered.
    """
    yield bucket.delete_below(build_version_report_key(fingerprint, task))
    yield bucket.delete_below(build_samples_prefix(fingerprint, task))
    own = f"{fingerprint}-{task}"
    yield bucket.delete_below(DIFFERENCES, lambda key: own in key)
    yield bucket.delete_below(build_manifest_key(fingerprint, task))

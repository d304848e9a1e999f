"""Finding abandoned dataset uploads and abandoned multipart uploads.

The parts of a multipart upload cost money, but listings of a bucket do not show them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.audit.findings import AuditFinding, FindingKind
from include.audit.orphans import find_known
from include.datasets.uploads.errors import UploadUnknown
from include.datasets.uploads.store import UploadStore
from include.registry.objects import lock_objects
from include.s3.layout import CHECKPOINTS, MODELS, PRETRAINED, UPLOADS
from include.s3.multipart import abort_multipart_upload, list_unfinished_uploads
from include.time_limited_connection import long_transaction

if TYPE_CHECKING:
    from psycopg import Connection

    from include.datasets.uploads.plan import Upload
    from include.s3.bucket import Bucket
    from include.s3.multipart import UnfinishedUpload

ABANDONED = timedelta(days=1)
"""No upload of a checkpoint or of weights takes a day: an older one was left behind by a killed process."""

LEFT_BEHIND = timedelta(days=7)
"""A user may continue the upload of a dataset after a weekend."""


def find_abandoned_uploads(
    connection: Connection[Any], bucket: Bucket, now: datetime, *, repair: bool
) -> Iterator[AuditFinding]:
    """Find unfinished uploads that began over a day ago or, for datasets, over a week ago.

    A day applies to checkpoints, models and pretrained weights. A repair aborts the upload, or removes
    the dataset's files. An upload that a version or a job refers to is kept, complete or not.
    """
    unfinished = list(UploadStore(bucket).find_unfinished(now - LEFT_BEHIND))
    with long_transaction(connection):  # the query may read every job
        used = find_known(connection, "list_known_uploads", [upload.upload_id for upload in unfinished])
    for dataset in (each for each in unfinished if each.upload_id not in used):
        if not repair or _remove_dataset(connection, bucket, dataset.upload_id):
            yield _report_abandoned(bucket, dataset, repair=repair)
    known = tuple(upload.prefix for upload in unfinished)
    ages = {CHECKPOINTS: ABANDONED, MODELS: ABANDONED, PRETRAINED: ABANDONED, UPLOADS: LEFT_BEHIND}
    for prefix, age in ages.items():
        for upload in list_unfinished_uploads(bucket, prefix):
            if upload.begun_at <= now - age and not upload.location.key.startswith(known):
                yield AuditFinding(
                    FindingKind.ABANDONED_UPLOAD,
                    f"A multipart upload to {upload.location.uri} was started at "
                    f"{upload.begun_at:%Y-%m-%d %H:%M} and was never completed",
                    path=upload.location.uri,
                    repair=_abort(bucket, upload) if repair else None,
                )


def _remove_dataset(connection: Connection[Any], bucket: Bucket, upload_id: str) -> bool:
    """Remove the upload, and return True, unless it has since been completed, registered or removed.

    A registration takes the same lock, so it cannot happen at the same time.
    """
    store = UploadStore(bucket)
    with long_transaction(connection):
        lock_objects(connection, [upload_id])
        try:
            upload = store.find(upload_id)
            if upload.completed_at is not None or find_known(connection, "list_known_uploads", [upload_id]):
                return False
            store.remove(upload)
        except UploadUnknown:
            return False
    return True


def _report_abandoned(bucket: Bucket, upload: Upload, *, repair: bool) -> AuditFinding:
    uri = bucket.at(upload.prefix).uri
    return AuditFinding(
        FindingKind.ABANDONED_UPLOAD,
        f"{upload.created_by} began to upload a dataset to {uri} at {upload.created_at:%Y-%m-%d %H:%M} and "
        "never completed it",
        path=uri,
        repair="removed, with all the files received" if repair else None,
    )


def _abort(bucket: Bucket, upload: UnfinishedUpload) -> str:
    aborted = abort_multipart_upload(bucket.client, upload.location, upload.upload_id)
    return "aborted, and its parts removed" if aborted else "already completed or aborted"

"""Decides which addresses in the checkpoint bucket may be used as data; most hold the project's own files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.datasets.conversion.store import ConvertedDataset, ConvertedDatasets
from include.datasets.errors import DatasetError
from include.datasets.uploads.errors import UploadUnknown
from include.datasets.uploads.store import UploadStore, find_upload_id
from include.registry.objects import DatasetObjects
from include.s3.layout import DATASETS, UPLOADS, ConvertedKey, build_manifest_key

if TYPE_CHECKING:
    from include.datasets.reference import DatasetReference
    from include.s3.bucket import Bucket
    from include.ultralytics_tasks import Task


def require_registrable(bucket: Bucket, source: str, task: Task) -> None:
    """Raise DatasetError for an address whose data may not be registered. Raises StoreErrors."""
    key = bucket.find_key(source)
    if key is None:
        return
    if key.strip("/") == UPLOADS.strip("/"):
        raise DatasetError(f"dataset={source!r} contains every upload: add the id of one upload")
    if f"{key}/".startswith(DATASETS) and not _is_converted_copy(key, task):
        raise DatasetError(
            f"dataset={source!r} is under {DATASETS}, where this project keeps files derived from data: "
            "register the address that the data came from"
        )
    require_complete_upload(bucket, source)


def require_complete_upload(bucket: Bucket, source: str) -> None:
    """Raise DatasetError if the source is an upload that is not complete, or was removed."""
    upload_id = find_upload_id(bucket, source)
    if upload_id is None:
        return
    try:
        upload = UploadStore(bucket).find(upload_id)
    except UploadUnknown:
        raise DatasetError(
            f"dataset={source!r} is an upload that was removed: upload the data again"
        ) from None
    if upload.completed_at is None:
        raise DatasetError(
            f"dataset={source!r} is an upload that is not complete: send what is missing, then "
            f"POST …/uploads/{upload_id}/complete"
        )


def require_stored(bucket: Bucket, dataset: DatasetReference) -> None:
    """Raise DatasetError if the data were deleted after their check, with another version of the same data.

    The caller must hold the lock on the objects, so that they are not deleted before the version is recorded.
    """
    for place in (dataset.origin, dataset.source):
        if place:
            require_complete_upload(bucket, place)
    copy = DatasetObjects.of(bucket, dataset).copy
    stored = True
    if copy:
        yaml = dataset.source.partition(copy)[2].strip("/") or None
        converted = ConvertedDataset(prefix=copy, fingerprint=dataset.fingerprint, yaml=yaml)
        stored = ConvertedDatasets(bucket).is_stored(converted)
    digits = dataset.source == "digits"  # the bundled digits have no manifest
    if not stored or not (digits or bucket.head(build_manifest_key(dataset.fingerprint, dataset.task))):
        raise DatasetError(
            f"dataset={dataset.origin or dataset.source!r} was deleted with another version of the same data "
            "while it was being checked: register it again"
        )


def _is_converted_copy(key: str, task: Task) -> bool:
    """Return whether the key is what a converted dataset is referenced by: its folder or its data.yaml."""
    converted = ConvertedKey.parse(key)
    return converted is not None and converted.path in ({None, ""} if task == "classify" else {"data.yaml"})

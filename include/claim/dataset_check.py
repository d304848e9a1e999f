"""Checks the data that the parameter `dataset` names: an address, or a version of a registered dataset."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from include.claim.own_bucket import require_complete_upload, require_registrable
from include.datasets.caching.listing import S3Listings
from include.datasets.check import inspect_dataset
from include.datasets.conversion.convert import Converter
from include.datasets.drawing.store import SampleStore
from include.datasets.registered import parse_registered
from include.datasets.s3 import S3ObjectReader
from include.deployment.connections import open_training_db
from include.registry.check import REGISTERED, check_version
from include.registry.manifests import store_manifest
from include.registry.repository import DatasetRepository

if TYPE_CHECKING:
    from include.datasets.check import CheckedDataset
    from include.datasets.layouts.boundary import DatasetRoots
    from include.datasets.rules import CheckRules
    from include.deployment.settings import Settings
    from include.s3.bucket import Bucket
    from include.ultralytics_tasks import Task


def check_parameter(
    dataset: str, task: Task, settings: Settings, bucket: Bucket, rules: CheckRules
) -> CheckedDataset:
    """Find and check the data that `dataset` names. Raises DatasetError, DatasetUnknown and StoreErrors."""
    named = parse_registered(dataset)
    if named is None:
        require_complete_upload(bucket, dataset)
        found = inspect_dataset(
            dataset,
            task,
            *_open_storage(settings, bucket),
            rules,
            cache_limit=settings.dataset_cache_limit,
            converter=Converter(bucket, settings.dataset_url_hosts),
        )
        # Again, because the upload may have been deleted since the first check.
        require_complete_upload(bucket, dataset)
        return found
    with open_training_db() as connection:
        version = DatasetRepository(connection).require(named)
    storage = _open_storage(settings, bucket)
    return check_version(version, task, *storage, rules, settings.dataset_cache_limit)


def inspect_source(source: str, task: Task, settings: Settings, bucket: Bucket) -> CheckedDataset:
    """Find and check data that are to be registered, and store their manifest and samples.

    Raises DatasetError and StoreErrors.
    """
    require_registrable(bucket, source, task)
    with tempfile.TemporaryDirectory(prefix="registration-") as folder:
        manifest, samples = Path(folder, "manifest.jsonl.gz"), Path(folder, "samples")
        found = inspect_dataset(
            source,
            task,
            *_open_storage(settings, bucket),
            REGISTERED,
            manifest,
            samples,
            settings.dataset_cache_limit,
            converter=Converter(bucket, settings.dataset_url_hosts),
        )
        if manifest.exists():  # the bundled digits have no manifest
            store_manifest(bucket, manifest, found.reference.fingerprint, task)
        SampleStore(bucket).store(found.reference.fingerprint, task, samples)
    return found


def _open_storage(
    settings: Settings, bucket: Bucket
) -> tuple[Path, S3ObjectReader, DatasetRoots, S3Listings]:
    """Return the arguments that tell a check where data may come from and where to keep them."""
    reader = S3ObjectReader(bucket.client)
    return settings.dataset_cache, reader, settings.dataset_roots, S3Listings(bucket)

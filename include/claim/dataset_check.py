"""Checks the data that the parameter `dataset` names: an address, or a version of a registered dataset."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from include.claim.own_bucket import require_complete_upload, require_registrable
from include.datasets.caching.listing import S3Listings
from include.datasets.check import inspect_dataset
from include.datasets.conversion.convert import Converter
from include.datasets.drawing.store import SampleStore
from include.datasets.errors import DatasetChanged, DatasetError
from include.datasets.reference import DatasetVersionName
from include.datasets.registered import parse_registered
from include.datasets.rules import CheckRules
from include.datasets.s3 import S3ObjectReader
from include.deployment.connections import open_training_db
from include.registry.manifests import store_manifest
from include.registry.repository import DatasetRepository

if TYPE_CHECKING:
    from include.datasets.check import CheckedDataset
    from include.datasets.layouts.boundary import DatasetRoots
    from include.deployment.settings import Settings
    from include.registry.version import DatasetVersion
    from include.s3.bucket import Bucket
    from include.ultralytics_tasks import Task

REGISTERED = CheckRules()
"""The rules for checking data at registration: the same as for a training run without arguments."""


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
    return _check_version(version, task, settings, bucket, rules)


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


def _check_version(
    version: DatasetVersion, task: Task, settings: Settings, bucket: Bucket, rules: CheckRules
) -> CheckedDataset:
    """Check a registered version again; return the result with a reference to the version.

    Raises DatasetError if the source no longer has the registered content. A path is also refused if this
    task or split reads files there that were not registered.
    """
    try:
        found = inspect_dataset(
            version.source,
            task,
            *_open_storage(settings, bucket),
            rules,
            cache_limit=settings.dataset_cache_limit,
            expected=version.fingerprint,
        )
    except DatasetChanged as error:
        raise _explain_change(version, task, rules, error) from error
    name = DatasetVersionName(name=version.name, version=version.version)
    named = found.reference.model_copy(update={"version": name, "origin": version.origin})
    return replace(found, reference=named)


def _explain_change(
    version: DatasetVersion, task: Task, rules: CheckRules, error: DatasetChanged
) -> DatasetError:
    # The fingerprint of a local path covers only the files that the task reads, in the splits used.
    is_as_registered = task == version.task and rules.split == REGISTERED.split
    if not is_as_registered and not version.source.startswith("s3://"):
        return DatasetError(
            f"dataset={str(version)!r} cannot be used with task={task} and split={rules.split}. Only the "
            f"files for task={version.task} and split={REGISTERED.split} in the folder {version.source} were "
            "registered: this job would read other files, or the files have changed since. Use the "
            f"registered task and split, give dataset={version.source!r}, or register the data from s3://"
        )
    return DatasetError(
        f"dataset={str(version)!r} can no longer be used, because {version.source} has changed since it "
        f"was registered on {version.created_at:%Y-%m-%d}. Restore the registered files, or register the "
        f"current files as a new version of {version.name}. Details: {error}"
    )


def _open_storage(
    settings: Settings, bucket: Bucket
) -> tuple[Path, S3ObjectReader, DatasetRoots, S3Listings]:
    """Return the arguments that tell a check where data may come from and where they are kept."""
    reader = S3ObjectReader(bucket.client)
    return settings.dataset_cache, reader, settings.dataset_roots, S3Listings(bucket)

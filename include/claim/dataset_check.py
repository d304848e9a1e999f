"""Checks what the parameter `dataset` names: data at an address, or a version of a registered dataset."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.datasets.check import check_dataset
from include.datasets.listings import S3Listings
from include.datasets.registered import parse_registered
from include.datasets.s3 import S3ObjectReader
from include.deployment.connections import open_training_db
from include.registry.check import check_version
from include.registry.repository import DatasetRepository

if TYPE_CHECKING:
    from include.datasets.reference import DatasetReference
    from include.datasets.rules import CheckRules
    from include.deployment.settings import Settings
    from include.s3.bucket import Bucket


def check_parameter(
    dataset: str, task: str, settings: Settings, bucket: Bucket, rules: CheckRules
) -> DatasetReference:
    """Find and check the data that `dataset` names. Raises DatasetError, DatasetUnknown and StoreErrors."""
    named = parse_registered(dataset)
    places = (
        settings.dataset_cache,
        S3ObjectReader(bucket.client),
        settings.dataset_roots,
        S3Listings(bucket),
        rules,
    )
    if named is None:
        return check_dataset(dataset, task, *places)
    with open_training_db() as connection:
        version = DatasetRepository(connection).require(named)
    return check_version(version, task, *places)

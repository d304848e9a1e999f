"""Registered datasets for tests that do not check data."""

from __future__ import annotations

from typing import Any

from include.datasets.reference import DatasetReference
from include.registry.repository import DatasetRepository, Registration
from include.registry.version import DatasetVersion


def reference_of(content: str, source: str = "s3://bucket/set/", **more: Any) -> DatasetReference:
    """Return a checked dataset whose fingerprint repeats `content`, a hexadecimal digit."""
    values: dict[str, Any] = {
        "source": source,
        "task": "detect",
        "fingerprint": content * 64,
        "train_images": 8,
        "val_images": 2,
        "classes": {0: "bolt"},
        "size": 1000,
    }
    return DatasetReference.model_validate(values | more)


def register(
    datasets: DatasetRepository, name: str, content: str, *, by: str | None = "ada", **more: Any
) -> DatasetVersion:
    """Register that content as the next version of the dataset; return the version."""
    return datasets.register(Registration(name, created_by=by), reference_of(content, **more))[0]

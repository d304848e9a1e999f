"""Steps that the dataset tests share."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from include.datasets import check
from include.datasets.caching import fetch
from include.datasets.caching.cache import DatasetCache
from include.datasets.errors import DatasetError
from include.datasets.examination import examine
from include.datasets.layouts.boundary import DatasetRoots
from include.datasets.reference import DatasetReference
from include.datasets.rules import check_rules
from include.datasets.sources import parse_source

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.datasets.caching.fetch import LocalDataset
    from include.datasets.caching.listing import S3Listings
    from include.datasets.storage import ObjectReader
    from include.stack.s3 import S3
    from include.ultralytics_tasks import Task


def roots_beside(cache: Path) -> DatasetRoots:
    """Return a test's DATASET_ROOTS: the parent folder of the cache, with the cache as TRAINING_ROOT."""
    return DatasetRoots((cache.parent,), cache)


def check_dataset(
    source: str, task: Task, cache: Path, s3: ObjectReader | None, **arguments: object
) -> DatasetReference:
    """Run the check for a training run with these Ultralytics `arguments`."""
    return check.inspect_dataset(
        source, task, cache, s3, roots_beside(cache), rules=check_rules(arguments)
    ).reference


def materialize(
    reference: DatasetReference,
    cache: Path,
    s3: ObjectReader | None,
    listings: S3Listings | None = None,
    roots: DatasetRoots | None = None,
) -> LocalDataset:
    """Materialize the dataset as a training run does; return the copy that stays in the cache."""
    with fetch.materialize(reference, cache, s3, roots or roots_beside(cache), listings) as local:
        return local


def check_here(source: Path | str, task: Task, cache: Path, **arguments: object) -> DatasetReference:
    """Check local data in this process, because starting another takes half a second."""
    rules, origin = check_rules(arguments), parse_source(str(source), task)
    opened, roots = DatasetCache.open(cache), roots_beside(cache)
    with fetch.locate(origin, str(source), opened, None, roots) as (location, fingerprint):
        found = examine(location.as_json(), task, fingerprint, rules.model_dump(mode="json"))
    warnings = sum(kind["count"] for kind in found["warnings"])
    return DatasetReference(
        source=str(source), task=task, split=rules.split, warnings=warnings, **found["reference"]
    )


def refusal(source: Path | str, task: Task, cache: Path, **arguments: object) -> str:
    """Return the reason why `check_here` refuses the data."""
    with pytest.raises(DatasetError) as refused:
        check_here(source, task, cache, **arguments)
    return str(refused.value)


def snapshot(folder: Path) -> dict[str, tuple[int, int]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_size, path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def describe(folder: Path, **changes: object) -> Path:
    """Change keys of data.yaml, removing those set to None; return the file."""
    file = folder / "data.yaml"
    data = yaml.safe_load(file.read_text()) | changes
    file.write_text(yaml.safe_dump({key: value for key, value in data.items() if value is not None}))
    return file


def arguments(s3: S3, **changes: str) -> dict[str, Any]:
    return {
        "endpoint_url": s3.endpoint_url,
        "aws_access_key_id": s3.access_key,
        "aws_secret_access_key": s3.secret_key,
        "region_name": s3.region,
    } | changes


def unused_client() -> S3Client:
    """Return a client without a server, for code that needs a client but sends no request."""
    import boto3  # imported here, because a test uses this module where boto3 is missing

    return boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:1",
        aws_access_key_id="unused",
        aws_secret_access_key="unused",
        region_name="us-east-1",
    )


def upload_files(client: S3Client, bucket: str, folder: Path, prefix: str = "") -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            # `upload_file` would start threads for each file.
            client.put_object(
                Bucket=bucket, Key=f"{prefix}{path.relative_to(folder)}", Body=path.read_bytes()
            )


def upload_zip(client: S3Client, bucket: str, folder: Path, key: str = "data.zip") -> str:
    packed = shutil.make_archive(str(folder.parent / "packed"), "zip", folder.parent, folder.name)
    client.upload_file(packed, bucket, key)
    return f"s3://{bucket}/{key}"


def images(local: LocalDataset) -> list[bytes]:
    root = local.data if local.data.is_dir() else local.data.parent
    return sorted(path.read_bytes() for path in root.rglob("*.png"))

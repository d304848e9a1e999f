"""Checks a registered version again before a training run, for the job's task and on the job's worker."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from include.datasets.check import inspect_dataset
from include.datasets.errors import DatasetChanged, DatasetError
from include.datasets.reference import DatasetVersionName
from include.datasets.rules import CheckRules

if TYPE_CHECKING:
    from pathlib import Path

    from include.datasets.caching.listing import S3Listings
    from include.datasets.check import CheckedDataset
    from include.datasets.layouts.boundary import DatasetRoots
    from include.datasets.storage import ObjectReader
    from include.registry.version import DatasetVersion
    from include.ultralytics_tasks import Task


REGISTERED = CheckRules()
"""The rules for checking data at registration: the same as for a training run without arguments."""


def check_version(
    version: DatasetVersion,
    task: Task,
    cache: Path,
    s3: ObjectReader,
    roots: DatasetRoots,
    listings: S3Listings,
    rules: CheckRules,
    cache_limit: int | None,
) -> CheckedDataset:
    """Fetch and check the version with `inspect_dataset`; return the result with a reference to the version.

    Raises DatasetError if the source no longer has the registered content, or if the source is a path and
    this task or split reads files there that were not registered. Also raises the errors of
    `inspect_dataset`.
    """
    try:
        found = inspect_dataset(
            version.source,
            task,
            cache,
            s3,
            roots,
            listings,
            rules,
            cache_limit=cache_limit,
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
            f"dataset={str(version)!r} cannot be used with task={task} and split={rules.split}. It is "
            f"the folder {version.source}, in which only the files for task={version.task} and "
            f"split={REGISTERED.split} were registered: this job would read other files, or the files "
            "have changed since. Use the registered task and split, give "
            f"dataset={version.source!r}, or register the data from s3://"
        )
    return DatasetError(
        f"dataset={str(version)!r} can no longer be used, because {version.source} has changed since it "
        f"was registered on {version.created_at:%Y-%m-%d}. Restore the registered files, or register the "
        f"current files as a new version of {version.name}. Details: {error}"
    )

"""Pins the version of a job's dataset if the dataset is registered; otherwise checks its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.datasets.errors import DatasetError
from include.datasets.reference import DatasetVersionName
from include.datasets.registered import parse_registered
from include.datasets.sources import parse_source
from include.jobs.spec import SpecError, TrainingSpec
from include.registry.errors import DatasetUnknown

if TYPE_CHECKING:
    from include.jobs.spec import ResolvedSpec
    from include.registry.repository import DatasetRepository


def pin_dataset(
    spec: TrainingSpec, datasets: DatasetRepository, started: TrainingSpec | None = None
) -> TrainingSpec:
    """Return the spec with its dataset pinned to the current version, such as `parts@3` for `parts`.

    If no task is given, the version's task applies. If this run has claimed the job before, `started` holds
    the parameters of that claim. Their version is kept, even if a newer one has been registered since. Raises
    SpecError.
    """
    if started is not None:
        spec = spec.with_version_of(started)
    named = parse_registered(spec.dataset or "")
    if named is None:
        return spec
    try:
        version = datasets.require(named)
    except DatasetUnknown as error:
        raise SpecError(str(error)).about("dataset") from None
    pinned = {"dataset": str(version), "task": spec.task or version.task}
    return TrainingSpec.parse_stored(spec.model_dump() | pinned)


def parse_pinned_version(spec: TrainingSpec) -> DatasetVersionName | None:
    """Return the dataset version in a pinned spec; None if its dataset is not registered."""
    named = parse_registered(spec.dataset or "")
    if named is None or named.version is None:
        return None
    return DatasetVersionName(name=named.name, version=named.version)


def require_dataset_address(spec: ResolvedSpec) -> None:
    """Raise SpecError unless the dataset is registered or given by an address that can be used."""
    if parse_registered(spec.dataset) is not None:
        return
    try:
        parse_source(spec.dataset, spec.task)
    except DatasetError as refusal:
        raise SpecError(str(refusal)).about("dataset") from None

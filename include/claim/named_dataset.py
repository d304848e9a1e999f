"""Pins the version of a registered dataset that a job is trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.datasets.reference import DatasetVersionName
from include.datasets.registered import parse_registered
from include.jobs.spec import SpecError, TrainingSpec
from include.registry.errors import DatasetUnknown

if TYPE_CHECKING:
    from include.registry.repository import DatasetRepository


def pin_dataset(
    spec: TrainingSpec, datasets: DatasetRepository, started: TrainingSpec | None = None
) -> TrainingSpec:
    """Return the spec with its dataset pinned to the present version, such as `parts@3` for `parts`.

    If no task is given, the version's task applies. If this run has claimed the job before, `started` has
    the parameters of that claim; their version is kept, even if newer ones have been registered since.
    Raises SpecError.
    """
    if started is not None:
        spec = spec.with_version_of(started)
    named = parse_registered(spec.dataset or "")
    if named is None:
        return spec
    try:
        version = datasets.require(named)
    except DatasetUnknown as error:
        raise SpecError(str(error)) from None
    pinned = {"dataset": str(version), "task": spec.task or version.task}
    return TrainingSpec.parse_stored(spec.model_dump() | pinned)


def pinned_version(spec: TrainingSpec) -> DatasetVersionName | None:
    """Return the version that a pinned spec names; None if its dataset is not a registered one."""
    named = parse_registered(spec.dataset or "")
    if named is None or named.version is None:
        return None
    return DatasetVersionName(name=named.name, version=named.version)

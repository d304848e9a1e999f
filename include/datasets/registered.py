"""Names of registered datasets, as the parameter `dataset` gives them: `name` or `name@version`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetError
from include.refusals import show_value
from include.s3.location import JOB_ID, JOB_ID_RULE

if TYPE_CHECKING:
    from include.datasets.reference import DatasetVersionName

DATASET_NAME = rf"^(?!digits\Z)(?!.*\.ya?ml\Z){JOB_ID.removeprefix('^')}"
DATASET_NAME_RULE = f"{JOB_ID_RULE}, and not 'digits' or the name of a YAML file"
"""The rule in words. Users would take the name coco8.yaml for the dataset that Ultralytics downloads."""
LARGEST_VERSION = 2**31 - 1
"""The largest value of PostgreSQL's type integer."""

_VERSION = re.compile(r"[1-9][0-9]{0,9}")


@dataclass(frozen=True)
class RegisteredName:
    """A registered dataset, or one version of it."""

    name: str
    """Name of the dataset."""
    version: int | None
    """Number of the version; None for the newest version that is not archived."""

    def __str__(self) -> str:
        return self.name if self.version is None else f"{self.name}@{self.version}"

    def may_be(self, other: RegisteredName | DatasetVersionName | None) -> bool:
        """Return whether `other` is this version or, if no version is named, any version of this dataset."""
        return other is not None and self.name == other.name and self.version in {None, other.version}


def parse_registered(dataset: str, parameter: str = "dataset") -> RegisteredName | None:
    """Return the registered dataset that the parameter may name; None for 'digits', a URI or a path.

    Raises DatasetError for a version that is not a whole number from 1 to LARGEST_VERSION.
    """
    name, at, version = dataset.partition("@")
    if not re.match(DATASET_NAME, name):
        return None
    if not at:
        return RegisteredName(name, None)
    if not _VERSION.fullmatch(version) or int(version) > LARGEST_VERSION:
        raise DatasetError(
            f"{parameter}={show_value(dataset)}: a version is a whole number from 1, as in '{name}@3'; "
            f"without one, '{name}' means the newest version"
        )
    return RegisteredName(name, int(version))

"""A version of a dataset: one row of `datasets`."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from include.datasets.reference import ClassCount
from include.ultralytics_tasks import Task


class WarningCount(BaseModel):
    """One kind of warning that the check gave, with the number of such warnings."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    kind: str
    """An identifier that stays the same in all versions of this project."""
    title: str
    """The problem, in the plural, such as 'images without a label file'."""
    remedy: str
    """The advice for the user, as an imperative."""
    count: int
    """Number of such warnings."""


class DatasetSummary(BaseModel):
    """A version without its class table and warnings, which may be long. Only `archived_at` ever changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """Name of the dataset."""
    version: int
    """Counted from 1 within the dataset."""
    fingerprint: str
    """Identifies the content: versions with equal fingerprints contain the same bytes."""
    source: str
    """Where the content is: `digits`, a path, or an s3:// URI."""
    origin: str | None
    """The source from which the content was converted; None if it was not converted."""
    task: Task
    """The task for which the content was checked."""
    train_images: int
    """Number of training images."""
    val_images: int
    """Number of validation images."""
    size: int
    """Total size of images and labels, in bytes."""
    report: str | None
    """The s3:// URI of the check's complete report; None if there is none."""
    note: str | None
    """Note by the person who registered the version."""
    run_id: str | None
    """Dag run that registered the version."""
    created_by: str | None
    """User who registered the version; None if the run has no user, as for a scheduled run."""
    created_at: datetime
    """When the version was registered."""
    archived_at: datetime | None
    """When the version was archived; None if it is not. `dataset: name` skips archived versions."""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class DatasetVersion(DatasetSummary):
    """One row of `datasets`."""

    class_table: list[ClassCount] | None
    """How often each class occurs, in the order of the class ids; None if the classes were not counted."""
    warnings: list[WarningCount] | None
    """The check's warnings, by kind; None if the warnings were not counted."""

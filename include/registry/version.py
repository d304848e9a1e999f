"""A version of a dataset: one row of `datasets`."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict

from include.datasets.class_table import ClassCount


class WarningCount(BaseModel):
    """One kind of warning of the check, and how often it was found."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str
    """A name that stays the same between versions of this project."""
    title: str
    """What was found, in the plural."""
    remedy: str
    """What to do about it, as an imperative."""
    count: int


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
    """What the content was converted from; None if it was registered as it is."""
    task: str
    """The task that it was checked for."""
    train_images: int
    """Number of images to train on."""
    val_images: int
    """Number of images to validate with."""
    size: int
    """Of images and labels, in bytes."""
    report: str | None
    """The s3:// URI of the check's complete report; None if there is none."""
    note: str | None
    """What the person who registered it wrote about it."""
    run_id: str | None
    """Dag run that registered it."""
    created_by: str | None
    """User who registered it; None if the run has no user, such as a scheduled one."""
    created_at: datetime
    """When it was registered."""
    archived_at: datetime | None
    """When it was archived; None if it is not. `dataset: name` passes over archived versions."""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class DatasetVersion(DatasetSummary):
    """One row of `datasets`."""

    class_table: list[ClassCount] | None
    """How often each class occurs, in the order of the class ids; None if it was not counted."""
    warnings: list[WarningCount] | None
    """The check's warnings, by kind; None if they were not counted."""

"""A version of a dataset: one row of `datasets`."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, ConfigDict


class DatasetVersion(BaseModel):
    """One row of `datasets`. It is never changed, except that a version can be archived and unarchived."""

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
    class_table: list[dict[str, Any]] | None
    """Per class, in the order of the class ids: its name, and how often it occurs in each split. None if it
    was not counted."""
    warnings: list[dict[str, Any]] | None
    """Kinds of warnings of the check, with how often each was found. None if it did not count them."""
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
    """When it was archived; None if it is not. `dataset: name` skips archived versions."""

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

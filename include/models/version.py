"""A version of a model as it is recorded: one row of `model_versions`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict


class Stage(StrEnum):
    """What became of a version: it waits for a decision, is in production, was, or was refused."""

    CANDIDATE = "candidate"
    PRODUCTION = "production"
    ARCHIVED = "archived"
    REJECTED = "rejected"


class ModelVersion(BaseModel):
    """One row of `model_versions`: a challenger that was evaluated, whatever became of it."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """Name of the model."""
    version: int
    """Counted from 1 within the model."""
    job_id: str
    """Training whose best.pt it is."""
    run_id: str | None
    """Dag run that registered it."""
    stage: Stage
    """What became of it."""
    path: str
    """The s3:// URI of its own object, which is never replaced."""
    sha256: str
    """Of that whole file, in lower-case hex."""
    size: int
    """Of that file, in bytes."""
    dataset: str | None
    """What it was trained and measured on."""
    dataset_fingerprint: str | None
    """Identifies the content of that dataset."""
    parameters_fingerprint: str | None
    """Identifies the parameters that decide what is learnt from given data."""
    metrics: dict[str, Any] | None
    """What it reached on the validation split."""
    champion_version: int | None
    """Version in production when this one was measured; None for nothing."""
    champion_metrics: dict[str, Any] | None
    """What the champion reached on the same data."""
    reason: str | None
    """Why it was promoted or refused."""
    promoted_by: str | None
    """Who last promoted it."""
    promoted_at: datetime | None
    """When it last came into production."""
    created_at: datetime
    """When it was registered."""

    def __str__(self) -> str:
        return f"version {self.version} of model {self.name}"

"""A version of a model: one row of `model_versions`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from include.s3.layout import SIGNATURE_SUFFIX


class Stage(StrEnum):
    """Stage of a version: waiting for a decision, in production, formerly in production, or rejected."""

    CANDIDATE = "candidate"
    PRODUCTION = "production"
    ARCHIVED = "archived"
    REJECTED = "rejected"


class ModelVersion(BaseModel):
    """One row of `model_versions`: a challenger that was evaluated, whether or not it was promoted."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: str
    """Name of the model."""
    version: int
    """Counted from 1 within the model."""
    job_id: str
    """Job whose best.pt became this version."""
    run_id: str | None
    """Dag run that registered the version."""
    stage: Stage
    """Stage of the version."""
    path: str
    """The s3:// URI of the version's own file, which is never replaced."""
    sha256: str
    """SHA-256 of the whole file, in lower-case hex."""
    size: int
    """Size of the file in bytes."""
    dataset: str | None
    """Dataset on which the version was trained and evaluated."""
    dataset_fingerprint: str | None
    """Identifies the content of that dataset."""
    parameters_fingerprint: str | None
    """Identifies the parameters that, for given data, determine the trained model."""
    metrics: dict[str, Any] | None
    """The version's metrics on the validation split."""
    champion_version: int | None
    """Version in production when this one was evaluated; None if there was none."""
    champion_metrics: dict[str, Any] | None
    """The champion's metrics on the same data."""
    reason: str | None
    """Why the version was promoted or rejected."""
    promoted_by: str | None
    """Who last promoted the version."""
    promoted_at: datetime | None
    """When the version was last promoted."""
    signature_sha256: str | None
    """SHA-256 of the version's signature; None if it was not signed."""
    created_at: datetime
    """When the version was registered."""

    @property
    def signature_path(self) -> str:
        """The s3:// URI of the signature, which exists once the version has been promoted and signed."""
        return f"{self.path}{SIGNATURE_SUFFIX}"

    @property
    def was_promoted(self) -> bool:
        """Whether the version is or was in production, and should therefore be signed."""
        return self.promoted_at is not None or self.stage in {Stage.PRODUCTION, Stage.ARCHIVED}

    def __str__(self) -> str:
        return f"version {self.version} of model {self.name}"

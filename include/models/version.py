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
    """One row of `model_versions`: a challenger that was evaluated, whatever became of it.

    version counts from 1 within the model's name; job_id is the training whose best.pt it is, run_id the Dag
    run that registered it. path is the s3:// URI of the version's own object, which is never replaced; sha256
    is of that whole file in lower-case hex, size in bytes. champion_version is what was in production when
    the version was measured (None: nothing), and both metrics are of the same data. reason says why it was
    promoted or refused; promoted_by and promoted_at tell of the last time that it came into production.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    version: int
    job_id: str
    run_id: str | None
    stage: Stage
    path: str
    sha256: str
    size: int
    dataset: str | None
    dataset_fingerprint: str | None
    parameters_fingerprint: str | None
    metrics: dict[str, Any] | None
    champion_version: int | None
    champion_metrics: dict[str, Any] | None
    reason: str | None
    promoted_by: str | None
    promoted_at: datetime | None
    created_at: datetime

    def __str__(self) -> str:
        return f"version {self.version} of model {self.name}"

"""The jobs that use a version of a dataset."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from include.database import fetch_rows

if TYPE_CHECKING:
    from psycopg import Connection

LISTED = 50
"""Number of jobs that are listed."""


class DatasetJob(BaseModel):
    """A job that uses a version of a dataset; its status does not matter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job_id: str
    status: str | None
    created_at: datetime | None
    triggered_by: str | None


def find_jobs(connection: Connection[Any], name: str, version: int) -> list[DatasetJob]:
    """Return the newest jobs that use the version of the dataset, at most LISTED."""
    rows = fetch_rows(connection, "list_dataset_jobs", name=name, version=version, limit=LISTED)
    return [DatasetJob.model_validate(row._asdict()) for row in rows]

"""The facts about a Dag run that are needed to claim a job for it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class RunIdentity:
    """The Dag run that claims the job.

    triggered_by is None for a schedule; queued_at is when the run was queued, if known. started_at is when
    the run started. Clearing a run that had ended sets it again; retries and waiting do not change it.
    """

    dag_id: str
    run_id: str
    created_at: datetime
    triggered_by: str | None
    queued_at: datetime | None = None
    started_at: datetime | None = None

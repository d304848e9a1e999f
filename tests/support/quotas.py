"""Quotas for tests that need some, and the recorded use of GPUs; other tests have no quotas."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg

from include.claim.quota import QuotaCheck
from include.jobs.quota import Quotas
from include.jobs.usage import UsageRepository


def check_quota(
    connection: psycopg.Connection[Any],
    *,
    gpus: str = "",
    gpu_hours: str = "",
    users: str = "",
    now: datetime | None = None,
) -> QuotaCheck:
    """Return the check of users' quotas under these settings; the defaults allow everything."""
    quotas = Quotas.parse(gpus, gpu_hours, users)
    return QuotaCheck(quotas, UsageRepository(connection), now or datetime.now(UTC))


def record_use(
    connection: psycopg.Connection[Any],
    job_id: str,
    started_at: datetime,
    hours: float,
    user: str | None = "ada",
    gpus: int = 1,
) -> None:
    """Record an attempt that had its GPUs for `hours` from `started_at` on."""
    connection.execute(
        "INSERT INTO gpu_usage (job_id, triggered_by, gpus, started_at, seen_at) VALUES (%s, %s, %s, %s, %s)",
        [job_id, user, gpus, started_at, started_at + timedelta(hours=hours)],
    )
    connection.commit()

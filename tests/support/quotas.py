"""Quotas for the tests that are about them; all other tests have none."""

from __future__ import annotations

from datetime import UTC, datetime
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
    """The users' quotas under these settings; without any, everything is allowed."""
    quotas = Quotas.parse(gpus, gpu_hours, users)
    return QuotaCheck(quotas, UsageRepository(connection), now or datetime.now(UTC))

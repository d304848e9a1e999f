"""Quotas for tests that need some; other tests have no quotas."""

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
    """Return the check of users' quotas under these settings; the defaults allow everything."""
    quotas = Quotas.parse(gpus, gpu_hours, users)
    return QuotaCheck(quotas, UsageRepository(connection), now or datetime.now(UTC))

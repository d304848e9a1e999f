"""A job whose user's GPU hours ran out while it waited for a GPU is refused, unless it has begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from include.claim.quota import QuotaReached
from include.tasks.train_yolo import require_hours_to_begin
from tests.support.airflow_connections import lead_to
from tests.support.jobs import claim

if TYPE_CHECKING:
    from pathlib import Path

    from include.jobs.repository import JobRepository
    from include.stack.s3 import S3


def test_a_job_without_gpu_hours_is_refused_only_at_its_first_attempt(
    jobs: JobRepository, migrated_url: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead_to(monkeypatch, migrated_url, s3, "none", tmp_path)
    claim(jobs)
    require_hours_to_begin("a")
    monkeypatch.setenv("QUOTA_USERS", "ada=none:0")
    with pytest.raises(QuotaReached, match=r"ada has used .+ this week"):
        require_hours_to_begin("a")
    jobs.leave_queue("a", "run1", 1)
    require_hours_to_begin("a")

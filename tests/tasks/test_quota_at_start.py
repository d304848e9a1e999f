"""A job may wait for its user's quota, and is refused if the GPU hours ran out before it began."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException

from include.claim.quota import QuotaReached, QuotaWait
from include.jobs.quota import Quotas
from include.tasks import train_yolo
from include.tasks.train_yolo import require_hours_to_begin, resolve_config
from tests.orchestration.test_retries import Task
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
    require_hours_to_begin("a", Quotas())
    no_hours = Quotas.parse("", "", "ada=none:0")
    with pytest.raises(QuotaReached, match=r"ada has used .+ this week"):
        require_hours_to_begin("a", no_hours)
    jobs.leave_queue("a", "run1", 1)
    require_hours_to_begin("a", no_hours)


def test_kills_of_a_job_that_waits_for_its_quota_are_not_consecutive(
    jobs: JobRepository, migrated_url: str, s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait(_: object) -> None:
        raise QuotaWait("2 of 2 GPUs are in use", timedelta(seconds=20))

    lead_to(monkeypatch, migrated_url, s3, "none", tmp_path)
    monkeypatch.setattr(train_yolo, "_claim", wait)
    task = Task({})
    for _ in range(4):
        task.begin()  # killed
        task.begin()
        with pytest.raises(AirflowRescheduleException):
            resolve_config(task.context)

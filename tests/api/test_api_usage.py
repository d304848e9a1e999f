"""GPU hours over REST: the table, the jobs behind its numbers, and the effect of a quota on a new run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import requests

from include.jobs.repository import JobRepository
from include.jobs.usage import WEEK, start_of_week
from tests.support.jobs import claim
from tests.support.quotas import record_use


def get(api_url: str, path: str, **query: Any) -> Any:
    answer = requests.get(f"{api_url}/usage{path}", params=query, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_table_has_the_hours_of_each_week_and_the_quota(
    api_url: str,
    jobs: JobRepository,
    connection: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("QUOTA_GPU_HOURS", "100")
    monkeypatch.setenv("QUOTA_USERS", "eve=3:none")
    monday = start_of_week(datetime.now(UTC))
    record_use(connection, "a", monday - WEEK, 2.5)
    claim(jobs, "b", triggered_by="eve")
    found = get(api_url, "", weeks=2)
    assert found["weeks"] == [f"{monday:%Y-%m-%d}", f"{monday - WEEK:%Y-%m-%d}"]
    ada, eve = found["users"]
    assert ada == {
        "user": "ada",
        "gpu_hours": [0, 2.5],
        "running": 0,
        "queued": 0,
        "held": 0,
        "quota_gpus": None,
        "quota_gpu_hours": 100,
    }
    assert (eve["user"], eve["queued"], eve["quota_gpus"], eve["quota_gpu_hours"]) == ("eve", 1, 3, None)


def test_the_jobs_of_a_week_are_listed_for_any_of_its_days(
    api_url: str, jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    monday = datetime(2026, 11, 2, tzinfo=UTC)
    claim(jobs, "a")
    record_use(connection, "a", monday, 1)
    record_use(connection, "gone", monday + timedelta(days=2), 3)
    assert get(api_url, "/jobs", user="ada", week="2026-11-08") == {
        "week": "2026-11-02",
        "jobs": [
            {"job_id": "gone", "status": None, "gpu_hours": 3, "attempts": 1},
            {"job_id": "a", "status": "queued", "gpu_hours": 1, "attempts": 1},
        ],
    }
    assert get(api_url, "/jobs", week="2026-11-08")["jobs"] == []


def test_validation_says_whether_the_quota_delays_or_refuses_a_run(
    api_url: str,
    jobs: JobRepository,
    connection: psycopg.Connection[Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def validated() -> Any:
        answer = requests.post(f"{api_url}/validate", json={"model": "yolo11n"}, timeout=60)
        return answer.json()

    claim(jobs, "a")
    assert validated() == {"errors": {}, "wait": None}
    monkeypatch.setenv("QUOTA_GPUS", "1")
    assert "ada may have 1 GPU at a time (QUOTA_GPUS), and their other jobs have 1 (a)" in validated()["wait"]
    monkeypatch.setenv("QUOTA_GPU_HOURS", "0")
    refused = validated()
    assert refused["wait"] is None
    assert "GPU hours: ada has used 0.0 of 0 this week" in refused["errors"][""]

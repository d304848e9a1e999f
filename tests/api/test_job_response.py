"""The response for jobs, shared by all routes: the settings are read only once for a page of jobs."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from include.api.job_response import build_responses
from include.deployment.settings import Settings
from include.jobs.repository import JobRepository
from tests.support.jobs import claim, recorded


def test_the_settings_are_read_once_for_a_page_of_jobs(
    jobs: JobRepository, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        claim(jobs, f"job-{number}", f"run-{number}")
    read: list[Settings] = []

    def from_environment(_: type[Settings]) -> Settings:
        read.append(Settings("a-bucket", None))  # type: ignore[arg-type]
        return read[-1]

    monkeypatch.setattr(Settings, "from_environment", classmethod(from_environment))
    shown = build_responses([recorded(jobs, f"job-{number}") for number in range(100)], connection)
    assert len(shown) == 100
    assert len(read) == 1

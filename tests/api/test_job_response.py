"""The response for jobs, which all routes share."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from include.api.job_response import build_response, build_responses
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


def test_a_state_within_the_first_epoch_has_no_link_to_best_pt(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs, "a", "run1")
    jobs.record_durable("a", "run1", 1, -1, 40)
    links = build_response(recorded(jobs, "a"), connection).links
    assert (links.best_checkpoint, links.last_checkpoint is None) == (None, False)
    jobs.record_durable("a", "run1", 1, 0)
    assert build_response(recorded(jobs, "a"), connection).links.best_checkpoint is not None

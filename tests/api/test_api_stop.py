"""Requests to stop a job: which jobs can be stopped, and from which pages of a browser."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
import requests

from include.jobs.repository import JobRepository
from tests.api.conftest import refused, row
from tests.support.jobs import record_checkpoints, recorded, started


@pytest.mark.usefixtures("waiting")
def test_a_page_of_another_origin_cannot_request_a_stop(
    api_url: str, connection: psycopg.Connection[Any]
) -> None:
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 202), ("none", 202)):
        answer = requests.post(f"{api_url}/jobs/a/stop", headers={"Sec-Fetch-Site": site}, timeout=60)
        assert answer.status_code == status, answer.text
        assert row(connection)["stop_requested"] is (status == 202)


@pytest.mark.usefixtures("waiting")
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://{host}", 202),
        ("https://{host}", 202),
        ("http://localhost:8080", 202),
        ("http://127.0.0.1:1", 403),
        ("http://{host}.example.org", 403),
        ("null", 403),
        ("http://[", 403),
    ],
)
def test_the_origin_header_decides_if_a_browser_does_not_send_sec_fetch_site(
    api_url: str, origin: str, status: int
) -> None:
    """Without TLS, browsers send no Sec-Fetch-Site. The third origin is the default of [api] base_url."""
    headers = {"Origin": origin.format(host=urlsplit(api_url).netloc)}
    answer = requests.post(f"{api_url}/jobs/a/stop", headers=headers, timeout=60)
    assert answer.status_code == status, answer.text


def test_a_running_job_is_asked_to_stop(api_url: str, jobs: JobRepository) -> None:
    started(jobs, epochs=1)
    for _ in range(2):
        answer = requests.post(f"{api_url}/jobs/a/stop", timeout=60)
        assert (answer.status_code, answer.json()["stop_requested"]) == (202, True)
    assert recorded(jobs).stop_requested


def test_a_job_that_has_ended_cannot_be_stopped(
    api_url: str, jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    started(jobs, epochs=3)
    record_checkpoints(connection)
    answer = requests.post(f"{api_url}/jobs/a/stop", timeout=60)
    assert "is completed; only queued or running" in refused(answer, 409)
    assert "'nobody' does not exist" in refused(requests.post(f"{api_url}/jobs/nobody/stop", timeout=60), 404)

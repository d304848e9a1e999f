"""A job that waits for a trainer, and functions that read rows and refusals in the tests of the API."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import requests

from include.jobs.repository import JobRepository
from tests.support.jobs import recorded


@pytest.fixture
def waiting(connection: psycopg.Connection[Any]) -> None:
    """Job a waits in a row that a host application wrote; no run owns the row."""
    connection.execute("INSERT INTO training_jobs (job_id) VALUES ('a')")
    connection.commit()


def row(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    connection.rollback()
    return recorded(JobRepository(connection)).model_dump()


def refused(answer: requests.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["detail"])

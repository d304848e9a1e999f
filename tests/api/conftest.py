"""A waiting job, requests by a viewer, and functions that read the job's row and error messages."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest
import requests

from include.jobs.repository import JobRepository
from include.stack.local import Stack
from tests.support.api_client import get, token
from tests.support.jobs import recorded


@pytest.fixture
def waiting(connection: psycopg.Connection[Any]) -> None:
    """Create job a in a waiting row, as a host application writes it; no run owns the row."""
    connection.execute("INSERT INTO training_jobs (job_id) VALUES ('a')")
    connection.commit()


@pytest.fixture
def ask(api_stack: Stack) -> Any:
    """Send GET requests to `api_stack` as a viewer; query parameters are passed as keyword arguments."""
    return lambda path, **query: get(api_stack, path, token(api_stack, "viewer"), **query)


def row(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    connection.rollback()
    return recorded(JobRepository(connection)).model_dump()


def refused(answer: requests.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["detail"])

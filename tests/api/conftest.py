"""A job that waits for a trainer, a viewer's requests, and functions that read rows and refusals."""

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
    """Job a waits in a row that a host application wrote; no run owns the row."""
    connection.execute("INSERT INTO training_jobs (job_id) VALUES ('a')")
    connection.commit()


@pytest.fixture
def ask(api_stack: Stack) -> Any:
    """GET from `api_stack` as a viewer; the path comes first, the query as keywords."""
    return lambda path, **query: get(api_stack, path, token(api_stack, "viewer"), **query)


def row(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    connection.rollback()
    return recorded(JobRepository(connection)).model_dump()


def refused(answer: requests.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return str(answer.json()["detail"])

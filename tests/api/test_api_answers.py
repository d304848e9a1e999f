"""Headers and limits that all answers of the API and the console share, whatever the request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
import requests
from fastapi import FastAPI
from fastapi.routing import APIRoute
from psycopg import sql

from include.api.app import PREFIX
from include.api.app import create_app as create_api
from include.console import PREFIX as CONSOLE
from include.console.app import create_app as create_console
from include.stack.local import Stack
from include.stack.ports import open_session
from tests.support.api_client import ask, token
from tests.support.api_server import open_app, serving

pytestmark = pytest.mark.timeout(600)

ELSEWHERE = "elsewhere.example"


@pytest.fixture(scope="module")
def served(api_stack: Stack, api_stack_connection: psycopg.Connection[Any]) -> Iterator[Stack]:
    """Yield the stack with a job that has ended."""
    api_stack_connection.execute("INSERT INTO training_jobs (job_id, status) VALUES ('answers', 'failed')")
    yield api_stack
    api_stack_connection.execute("DELETE FROM training_jobs WHERE job_id = 'answers'")


def _get(stack: Stack, path: str, role: str | None = "admin", **headers: str) -> requests.Response:
    if role is not None:
        headers["Authorization"] = f"Bearer {token(stack, role)}"
    with open_session() as session:
        return session.get(f"{stack.url}{path}", headers=headers, timeout=60, allow_redirects=False)


def _forbids_everything(headers: requests.structures.CaseInsensitiveDict[str]) -> None:
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("path", "role", "status"),
    [
        ("/jobs", "viewer", 200),
        ("/session", "viewer", 200),
        ("/openapi.json", "viewer", 200),
        ("/jobs/answers/events", "viewer", 200),
        ("/jobs", None, 401),
        ("/jobs/answers/stop", "viewer", 405),
        ("/jobs/nowhere", "viewer", 404),
        ("/nowhere", "viewer", 404),
        ("/jobs?limit=0", "viewer", 422),
        (f"/jobs?prefix={'x' * 9000}", "viewer", 414),
    ],
)
def test_every_response_of_the_api_has_the_security_headers(
    served: Stack, path: str, role: str | None, status: int
) -> None:
    answer = _get(served, PREFIX + path, role)
    assert answer.status_code == status
    _forbids_everything(answer.headers)


def _fail() -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("make", [create_api, create_console])
def test_an_unexpected_error_has_the_security_headers_and_no_details(make: type[FastAPI]) -> None:
    app = make()
    app.get("/fails")(_fail)
    with serving(open_app(app)) as url:
        answer = requests.get(f"{url}/fails", timeout=60)
    assert answer.status_code == 500
    assert "ZeroDivision" not in answer.text
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


def test_an_outage_of_airflows_database_is_reported_whatever_the_request(served: Stack) -> None:
    bearer, airflow = token(served, "admin"), sql.Identifier("airflow")
    requests_sent = [
        ("GET", "/jobs"),
        ("GET", "/nowhere"),
        ("GET", "/jobs?limit=0"),
        ("POST", "/jobs/answers/stop"),
    ]
    with psycopg.connect(served.postgres.build_url("postgres"), autocommit=True) as server:
        server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(airflow))
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'airflow'")
        try:
            answers = [ask(served, method, path, bearer) for method, path in requests_sent]
            page = _get(served, f"{CONSOLE}/jobs")
        finally:
            server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(airflow))
    for answer in (*answers, page):
        assert answer.status_code == 503, answer.text
        assert answer.headers["retry-after"] == "10"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.json()["detail"] == "Airflow's database does not respond: try again later."


def test_no_page_is_kept_by_a_shared_cache(served: Stack) -> None:
    for path in ("/", "/jobs", "/nowhere", "/static/current/h.js"):
        kept = _get(served, CONSOLE + path).headers["cache-control"]
        assert kept == "no-store" or kept.startswith("private, no-cache"), path


def _paths() -> list[str]:
    routes = [
        (prefix, route)
        for prefix, app in ((PREFIX, create_api()), (CONSOLE, create_console()))
        for route in app.routes
        if isinstance(route, APIRoute)
    ]
    values = {
        "job_id": "answers",
        "kind": "best",
        "name": "h.js",
        "version": "1",
        "run_id": "manual__1",
        "sample": "0.jpg",
        "upload_id": "answers",
    }
    paths = [
        prefix + route.path.replace(":path", "").format(**values)
        for prefix, route in routes
        if "GET" in route.methods
    ]
    return [*paths, CONSOLE, PREFIX]


@pytest.mark.parametrize("slash", ["", "/"])
def test_no_response_redirects_to_a_host_that_the_request_names(served: Stack, slash: str) -> None:
    for path in _paths():
        named = {"Host": ELSEWHERE, "X-Forwarded-Host": ELSEWHERE}
        answer = _get(served, path.rstrip("/") + slash, **named)
        assert ELSEWHERE not in str(answer.headers), path
        assert ELSEWHERE not in answer.text, path


@pytest.mark.parametrize("role", ["wizard", "ADMIN ", "viewer\u202e", "\n"])
def test_a_role_that_airflow_does_not_know_has_no_permissions(served: Stack, role: str) -> None:
    bearer = token(served, role)
    for method, path in (
        ("GET", "/jobs"),
        ("GET", "/jobs/answers/events"),
        ("GET", "/models"),
        ("POST", "/jobs/answers/stop"),
    ):
        answer = ask(served, method, path, bearer)
        assert answer.status_code == 403, (method, path, answer.text)
        assert "The role in this login does not exist in Airflow: log in again" in answer.json()["detail"]
    assert ask(served, "GET", "/session", bearer).json()["may_start"] is False

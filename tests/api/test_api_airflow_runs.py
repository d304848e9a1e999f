"""Routes that call Airflow's own API, which the same process serves and which may fail."""

from __future__ import annotations

import asyncio
import sys
from inspect import iscoroutinefunction, signature
from types import SimpleNamespace

import httpx
import pytest
from anyio.to_thread import current_default_thread_limiter
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from include.api.app import create_app
from tests.support.api_server import open_app

RUN = "/api/v2/dags/{dag_id}/dagRuns/{run_id}"


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch) -> FastAPI:
    """Return an application in place of Airflow's; it has no routes yet."""
    app = FastAPI()
    monkeypatch.setitem(sys.modules, "airflow.api_fastapi.main", SimpleNamespace(app=app))
    return app


def get(path: str) -> httpx.Response:
    """Send the request on a separate event loop, which has its own shared threads."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(open_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://training") as client:
            return await client.get(path)

    return asyncio.run(ask())


def test_a_route_that_waits_for_airflow_occupies_none_of_the_shared_threads(airflow: FastAPI) -> None:
    """Airflow's routes need those threads: if our routes occupied all of them, both would wait for ever."""
    occupied = []

    @airflow.get(RUN)
    async def get_dag_run() -> dict[str, str]:
        occupied.append(current_default_thread_limiter().borrowed_tokens)
        return {"state": "running"}

    assert get("/deletions/run1").json()["state"] == "deleting"
    assert occupied == [0]


OTHERS = {"describe", "get_session"}
"""Routes that have a request parameter but do not call Airflow's API."""


def test_every_route_that_may_wait_for_airflow_has_a_thread_of_its_own() -> None:
    """To call Airflow's API, a route needs the request, which has the caller's login."""
    endpoints = [route.endpoint for route in create_app().routes if isinstance(route, APIRoute)]
    with_request = [each for each in endpoints if "request" in signature(each).parameters]
    assert {each.__name__ for each in with_request if not iscoroutinefunction(each)} == OTHERS


def test_a_failure_of_airflow_is_not_reported_as_an_unknown_run(airflow: FastAPI) -> None:
    running = {"state": "running"}
    answers = iter([JSONResponse({}, 500), JSONResponse(running), JSONResponse({}, 404)])

    @airflow.get(RUN)
    async def get_dag_run() -> JSONResponse:
        return next(answers)

    failed, found, unknown = (get("/deletions/run1") for _ in range(3))
    assert (failed.status_code, failed.headers["Retry-After"]) == (503, "10")
    assert failed.headers["content-type"] == "application/problem+json"
    assert found.json()["state"] == "deleting"
    assert unknown.status_code == 404


def test_a_failure_of_airflow_is_not_reported_as_a_failure_without_a_reason(airflow: FastAPI) -> None:
    answers = iter([JSONResponse({}, 500), JSONResponse({"value": "job a is pinned"})])

    @airflow.get(RUN)
    async def get_dag_run() -> dict[str, str]:
        return {"state": "failed"}

    @airflow.get(f"{RUN}/taskInstances/{{task_id}}/xcomEntries/{{key}}")
    async def get_xcom_entry() -> JSONResponse:
        return next(answers)

    unknown, refused = get("/deletions/run1"), get("/deletions/run1")
    assert (unknown.status_code, unknown.headers["Retry-After"]) == (503, "10")
    assert (refused.json()["state"], refused.json()["error"]) == ("refused", "job a is pinned")


@pytest.mark.parametrize("run_id", ["%2E", "%2E%2E", "%00", "a%00"])
def test_an_id_that_no_run_can_have_is_that_of_an_unknown_run(airflow: FastAPI, run_id: str) -> None:
    @airflow.get("/api/v2/dags/{path:path}")
    async def get_anything(path: str) -> JSONResponse:
        return JSONResponse({}, 500 if "\0" in path else 200)

    assert get(f"/deletions/{run_id}").status_code == 404

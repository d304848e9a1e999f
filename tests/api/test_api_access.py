"""Every route admits exactly the users that it should.

This is tested through Airflow's API server, with FAB and config/roles.json.

The expected permissions are in tests/support/access_table.py. A test fails if that table is incomplete.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
from fastapi import FastAPI
from fastapi.routing import APIRoute

from include.api.app import PREFIX, create_app
from include.console import app as console
from include.deployment.settings import DEFAULT_BUCKET
from include.stack.local import Stack
from include.stack.ports import open_session
from tests.support.access_table import DISTINGUISHING, EVERYBODY, OURS, PAGES, STARTS, TABLE, Row
from tests.support.api_client import ask, get, log_in_over_rest, token
from tests.support.ask_as_roles import PEOPLE

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]


Requests = list[tuple[str | None, str, str, Any]]
Answers = dict[tuple[str, str, str | None], dict[str, Any]]
"""Each answer, by method, path and user."""


@pytest.fixture(scope="module")
def served(api_stack: Stack, api_stack_connection: psycopg.Connection[Any]) -> Iterator[Stack]:
    """Yield the stack with versions of a model and a dataset, and jobs of ada, the trainer and no owner."""
    api_stack_connection.execute(
        "INSERT INTO model_versions (name, version, job_id, path, sha256, size) "
        "VALUES ('access', 1, 'job', 's3://bucket/best.pt', 'abc', 1)"
    )
    api_stack_connection.execute(
        "INSERT INTO datasets "
        "(name, version, fingerprint, source, task, train_images, val_images, size, created_by) "
        "VALUES ('access', 1, 'x', 's3://b/k', 'detect', 8, 2, 1, 'eve')"
    )
    api_stack_connection.execute(
        "INSERT INTO training_jobs (job_id, status, dag_id, run_id, triggered_by) VALUES "
        "('access-ada', 'failed', 'train_yolo', 'manual__1', 'ada'), "
        "('access-trainer', 'running', 'train_yolo', 'manual__2', 'trainer')"
    )
    client, key = api_stack.s3.client(), "checkpoints/access-stored/last.pt"
    client.put_object(Bucket=DEFAULT_BUCKET, Key=key, Body=b"state")
    api_stack_connection.execute(
        "INSERT INTO training_jobs (job_id, status, last_checkpoint_path) "
        "VALUES ('access-stored', 'completed', %s)",
        [f"s3://{DEFAULT_BUCKET}/{key}"],
    )
    yield api_stack
    api_stack_connection.execute("DELETE FROM model_versions WHERE name = 'access'")
    api_stack_connection.execute("DELETE FROM training_jobs WHERE starts_with(job_id, 'access-')")
    api_stack_connection.execute("DELETE FROM datasets WHERE name = 'access'")
    client.delete_object(Bucket=DEFAULT_BUCKET, Key=key)


@pytest.fixture(scope="module")
def all_requests() -> Requests:
    """Every request in the tables, for every user."""
    all_requests: Requests = [(who, row.method, path, row.body) for path, row in TABLE for who in EVERYBODY]
    all_requests += [(who, row.method, path, row.body) for path, row in DISTINGUISHING for who in PEOPLE]
    all_requests.append((None, "POST", "/auth/token", {"username": "trainer", "password": "trainer"}))
    return all_requests


@pytest.fixture(scope="module")
def fab_server(served: Stack, all_requests: Requests) -> dict[str, Any]:
    """Return the modules that an API server with FAB has loaded, and its answers to the requests."""
    environment = served.airflow.build_environment("api-server") | {
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager",
        "AIRFLOW__FAB__CONFIG_FILE": str(ROOT / "config" / "oidc.py"),
        "JOB_ADMINISTRATORS": "administrator",
    }
    answered = subprocess.run(
        [sys.executable, "-m", "tests.support.ask_as_roles"],
        input=json.dumps(all_requests),
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answered.returncode == 0, answered.stderr[-4000:]
    found: dict[str, Any] = json.loads(answered.stdout)
    return found


@pytest.fixture(scope="module")
def answers(all_requests: Requests, fab_server: dict[str, Any]) -> Answers:
    return {
        (method, path, who): answer
        for (who, method, path, _), answer in zip(all_requests, fab_server["answers"], strict=True)
    }


def _routes(app: FastAPI) -> set[tuple[str, str]]:
    routes = [route for route in app.routes if isinstance(route, APIRoute)]
    assert len(app.routes) == len(routes)
    return {(method, route.path) for route in routes for method in route.methods}


@pytest.mark.parametrize(("rows", "app"), [(OURS, create_app), (PAGES, console.create_app)])
def test_the_table_has_every_route(rows: list[Row], app: Any) -> None:
    assert _routes(app()) == {(row.method, row.route) for row in rows}


def test_the_table_has_every_dag(served: Stack) -> None:
    headers = {"Authorization": f"Bearer {token(served, 'admin')}"}
    found = requests.get(f"{served.url}/api/v2/dags", headers=headers, timeout=60).json()["dags"]
    assert {dag["dag_id"] for dag in found} == set(STARTS)


def test_a_task_loads_one_plugin_and_not_the_application(fab_server: dict[str, Any]) -> None:
    assert fab_server["loaded"] == {
        "plugins": ["training_console"],
        "application in a task": False,
        # The server has not imported any library that could open a checkpoint.
        "in the server": ["include.api.app"],
    }


@pytest.mark.parametrize(("path", "row"), TABLE, ids=[f"{row.method} {path}" for path, row in TABLE])
def test_a_route_is_open_to_the_right_people_only(answers: Answers, path: str, row: Row) -> None:
    found = {who: answers[row.method, path, who] for who in EVERYBODY}
    assert {who: answer["status"] for who, answer in found.items()} == row.expected
    if path.startswith(PREFIX):
        for answer in found.values():
            if answer["status"] >= 400:
                assert answer["type"] == "application/problem+json"
                assert answer["detail"].endswith(".")


def test_a_program_gets_a_token_for_a_password_although_people_log_in_by_oidc(answers: Answers) -> None:
    assert answers["POST", "/auth/token", None]["status"] == 201


@pytest.mark.parametrize("who", PEOPLE)
def test_a_group_of_the_identity_provider_becomes_a_role(answers: Answers, who: str) -> None:
    role = who.removesuffix(" by OIDC")
    found = {path: answers[row.method, path, who]["status"] for path, row in DISTINGUISHING}
    assert found == {path: row.expected[role] for path, row in DISTINGUISHING}


def test_an_airflow_token_is_accepted_as_a_header_and_as_a_cookie(served: Stack) -> None:
    login = {"username": served.username, "password": served.password}
    with open_session() as session:
        given = session.post(f"{served.url}/auth/token", json=login, timeout=60).json()["access_token"]
        session.cookies.set("_token", given)
        by_cookie = session.get(f"{served.url}{PREFIX}/models", timeout=60)
    assert get(served, "/models", given).status_code == by_cookie.status_code == 200


def test_a_token_that_airflow_did_not_sign_is_refused(served: Stack) -> None:
    header, claims, signature = token(served, "admin").split(".")
    forged = f"{header}.{claims}.{signature[::-1]}"
    answer = get(served, "/models", forged)
    assert answer.status_code == 403
    assert answer.json()["detail"].startswith("Invalid JWT token. Log in to Airflow")


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi", "/", "/models/access", "/nowhere"])
def test_paths_without_a_route_are_not_found(served: Stack, path: str) -> None:
    assert get(served, path).status_code == 401
    answer = get(served, path, token(served, "viewer"))
    assert answer.status_code == 404, answer.text
    assert answer.json()["title"] == "Not Found"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/models"), ("DELETE", "/openapi.json"), ("POST", "/jobs/a/completion")]
)
def test_a_bad_request_without_a_login_reveals_nothing(served: Stack, method: str, path: str) -> None:
    with open_session() as session:
        answer = session.request(
            method,
            f"{served.url}{PREFIX}{path}",
            data="{no json",
            headers={"Content-Type": "application/json"},
            timeout=60,
        )
    assert answer.status_code == 401, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_methods_without_a_route_are_refused(served: Stack, method: str) -> None:
    """Only the methods in the table change anything; every other method is refused at the table's paths."""
    changing = {row.route for row in OURS if row.method == method}
    admin = token(served, "admin")
    for path in {row.path for row in OURS if row.route not in changing}:
        answer = ask(served, method, path, admin)
        assert answer.status_code == 405, (method, path)
        assert answer.headers["content-type"] == "application/problem+json"


def test_viewers_are_refused_only_requests_that_change_something() -> None:
    assert {row.method for row in OURS} == {"GET", "POST", "PUT", "DELETE"}
    for row in OURS:
        assert (row.expected["viewer"] == 403) == (row.method != "GET")


def test_a_session_lists_the_permissions_of_its_user(served: Stack) -> None:
    def session_of(role: str | None) -> dict[str, Any]:
        found: dict[str, Any] = ask(served, "GET", "/session", token(served, role)).json()
        return found

    assert [session_of(role)["may_start"] for role in (None, "viewer", "user")] == [False, False, True]
    assert session_of("user") == {
        "user": "a-user",
        "may_start": True,
        "may_register": True,
        "may_change_all_jobs": False,
        "job_administrators": [served.username],
        "airflow_url": served.url,
    }
    assert get(served, "/session", log_in_over_rest(served)).json()["may_change_all_jobs"] is True

"""Every route of the API and everybody who may ask: the table is complete, or a test fails."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import requests
from fastapi.routing import APIRoute

from include.api.app import PREFIX, create_app
from include.stack.local import Stack
from tests.support import platforms
from tests.support.api_client import ask, get, token

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]

OPEN_TO_ALL_USERS = {"anonymous": 401, "without a role": 200, "viewer": 200, "user": 200, "admin": 200}
SEES_RUNS = OPEN_TO_ALL_USERS | {"without a role": 403}

STARTS_RUNS = SEES_RUNS | {"viewer": 403}
NOTHING_THERE = {"anonymous": 401, "without a role": 403, "viewer": 404, "user": 404, "admin": 404}

ROUTES: dict[tuple[str, str], tuple[str, dict[str, int]]] = {
    ("GET", "/openapi.json"): ("/openapi.json", OPEN_TO_ALL_USERS),
    ("GET", "/session"): ("/session", OPEN_TO_ALL_USERS),
    ("GET", "/models"): ("/models", SEES_RUNS),
    ("GET", "/models/{name}/{version}"): ("/models/access/1", SEES_RUNS),
    ("GET", "/datasets"): ("/datasets", SEES_RUNS),
    ("GET", "/datasets/{name}"): ("/datasets/access", SEES_RUNS),
    ("GET", "/datasets/{name}/versions/{version}"): ("/datasets/access/versions/1", SEES_RUNS),
    ("GET", "/datasets/{name}/versions/{version}/difference"): (
        "/datasets/access/versions/2/difference",
        SEES_RUNS | {"viewer": 422, "user": 422, "admin": 422},
    ),
    ("GET", "/datasets/{name}/registrations/{run_id:path}"): (
        "/datasets/access/registrations/manual__1",
        NOTHING_THERE,
    ),
    # Who may register data is told that none are named.
    ("POST", "/datasets/{name}/versions"): (
        "/datasets/access/versions",
        STARTS_RUNS | {"user": 422, "admin": 422},
    ),
    ("POST", "/datasets/{name}/versions/{version}/archive"): (
        "/datasets/access/versions/1/archive",
        STARTS_RUNS,
    ),
    ("POST", "/datasets/{name}/versions/{version}/restore"): (
        "/datasets/access/versions/1/restore",
        STARTS_RUNS,
    ),
    # Nobody here has registered the version.
    ("DELETE", "/datasets/{name}/versions/{version}"): (
        "/datasets/access/versions/1",
        STARTS_RUNS | {"user": 403, "admin": 403},
    ),
    ("GET", "/jobs"): ("/jobs", SEES_RUNS),
    ("GET", "/jobs/{job_id}"): ("/jobs/access", SEES_RUNS),
    ("GET", "/jobs/{job_id}/epochs"): ("/jobs/access/epochs", SEES_RUNS),
    ("GET", "/jobs/{job_id}/lineage"): ("/jobs/access/lineage", SEES_RUNS),
    ("GET", "/jobs/{job_id}/class-table"): ("/jobs/access/class-table", SEES_RUNS),
    ("GET", "/jobs/{job_id}/dataset-report"): ("/jobs/access/dataset-report", NOTHING_THERE),
    ("GET", "/jobs/{job_id}/events"): ("/jobs/access-ended/events", SEES_RUNS),
    ("GET", "/jobs/{job_id}/checkpoints/{kind}"): ("/jobs/access/checkpoints/best", NOTHING_THERE),
    ("GET", "/jobs/{job_id}/pictures"): ("/jobs/access/pictures", SEES_RUNS),
    ("GET", "/jobs/{job_id}/pictures/{name}"): ("/jobs/access/pictures/results.png", NOTHING_THERE),
    ("POST", "/jobs/{job_id}/stop"): ("/jobs/access/stop", STARTS_RUNS | {"user": 202, "admin": 202}),
    ("POST", "/validate"): ("/validate", STARTS_RUNS),
    ("GET", "/usage"): ("/usage", SEES_RUNS),
    ("GET", "/usage/jobs"): ("/usage/jobs", SEES_RUNS),
    # Who may upload is told that an empty body is refused.
    ("GET", "/datasets/{name}/versions/{version}/samples"): (
        "/datasets/access/versions/1/samples",
        SEES_RUNS,
    ),
    ("GET", "/datasets/{name}/versions/{version}/samples/{sample}"): (
        "/datasets/access/versions/1/samples/0.jpg",
        NOTHING_THERE,
    ),
    ("POST", "/uploads"): ("/uploads", STARTS_RUNS | {"user": 422, "admin": 422}),
    ("GET", "/uploads/{upload_id}"): ("/uploads/access", NOTHING_THERE),
    ("POST", "/uploads/{upload_id}/parts"): (
        "/uploads/access/parts",
        STARTS_RUNS | {"user": 422, "admin": 422},
    ),
    ("POST", "/uploads/{upload_id}/complete"): (
        "/uploads/access/complete",
        STARTS_RUNS | {"user": 404, "admin": 404},
    ),
    ("DELETE", "/uploads/{upload_id}"): ("/uploads/access", STARTS_RUNS | {"user": 404, "admin": 404}),
    ("GET", "/pretrained"): ("/pretrained", SEES_RUNS),
    # Who may store a file is told that an empty one is refused.
    ("PUT", "/pretrained/{name}"): ("/pretrained/access.pt", STARTS_RUNS | {"user": 422, "admin": 422}),
    # Nobody here has started the job.
    ("POST", "/jobs/{job_id}/archive"): (
        "/jobs/access-ended/archive",
        STARTS_RUNS | {"user": 403, "admin": 403},
    ),
    ("DELETE", "/jobs/{job_id}/archive"): (
        "/jobs/access-ended/archive",
        STARTS_RUNS | {"user": 403, "admin": 403},
    ),
    # Who may delete a job is told that its id has to be given once more.
    ("DELETE", "/jobs/{job_id}"): ("/jobs/access-ended", STARTS_RUNS | {"user": 422, "admin": 422}),
    ("GET", "/deletions/{run_id:path}"): ("/deletions/manual__1", NOTHING_THERE),
    # Who may complete a job is told that an empty body is refused.
    ("POST", "/jobs/{job_id}/completion"): (
        "/jobs/access/completion",
        STARTS_RUNS | {"user": 422, "admin": 422},
    ),
}
"""Of each method and route a path that is there, and what everybody gets."""

ASKED = [
    (method, path, who, status)
    for (method, _), (path, expected) in ROUTES.items()
    for who, status in expected.items()
]


@pytest.fixture(scope="module")
def served(api_stack: Stack) -> Iterator[Stack]:
    """With one version of a model, and two jobs: one waits, one has ended."""
    platforms.migrate(api_stack)
    with psycopg.connect(api_stack.training_db_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO model_versions (name, version, job_id, path, sha256, size) "
            "VALUES ('access', 1, 'job', 's3://bucket/best.pt', 'abc', 1)"
        )
        connection.execute(
            "INSERT INTO datasets "
            "(name, version, fingerprint, source, task, train_images, val_images, size, created_by) "
            "VALUES ('access', 1, 'x', 's3://b/k', 'detect', 8, 2, 1, 'eve')"
        )
        connection.execute(
            "INSERT INTO training_jobs (job_id, status) "
            "VALUES ('access', 'queued'), ('access-ended', 'failed')"
        )
        yield api_stack
        connection.execute("DELETE FROM model_versions WHERE name = 'access'")
        connection.execute("DELETE FROM training_jobs WHERE job_id IN ('access', 'access-ended')")
        connection.execute("DELETE FROM datasets WHERE name = 'access'")


def _token(stack: Stack, who: str) -> str | None:
    if who == "anonymous":
        return None
    return token(stack, None if who == "without a role" else who)


def test_the_table_has_every_route() -> None:
    routes = [route for route in create_app().routes if isinstance(route, APIRoute)]
    assert {(method, route.path) for route in routes for method in route.methods} == set(ROUTES)
    assert len(create_app().routes) == len(routes)


LOADED = """
import sys
from airflow import plugins_manager
plugins_manager.ensure_plugins_loaded()
print([plugin.name for plugin in plugins_manager._get_plugins()[0]], "include.api.app" in sys.modules)
plugins_manager.get_fastapi_plugins()
print("include.api.app" in sys.modules, sorted({"torch", "ultralytics", "cv2"} & set(sys.modules)))
"""


def test_a_task_loads_one_plugin_and_not_the_application(tmp_path: Path) -> None:
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "PYTHONPATH": str(ROOT),
    }
    loaded = subprocess.run(
        [sys.executable, "-c", LOADED], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    said = loaded.stdout.splitlines()
    assert "['training_console'] False" in said, loaded.stderr
    # The server has nothing that could open a checkpoint.
    assert said[-1] == "True []"


@pytest.mark.parametrize(("method", "path", "who", "status"), ASKED)
def test_a_route_answers_whom_it_should(served: Stack, method: str, path: str, who: str, status: int) -> None:
    answer = ask(served, method, path, _token(served, who))
    assert answer.status_code == status, answer.text
    if status >= 400:
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert (problem["status"], problem["type"]) == (status, "about:blank")
        assert problem["detail"].endswith(".")


def test_a_login_of_airflow_is_a_login_here(served: Stack) -> None:
    login = {"username": served.username, "password": served.password}
    with requests.Session() as session:
        session.trust_env = False
        given = session.post(f"{served.url}/auth/token", json=login, timeout=60).json()["access_token"]
        session.cookies.set("_token", given)
        by_cookie = session.get(f"{served.url}{PREFIX}/models", timeout=60)
    assert get(served, "/models", given).status_code == by_cookie.status_code == 200


def test_a_token_that_airflow_did_not_sign_is_none(served: Stack) -> None:
    header, claims, signature = token(served, "admin").split(".")
    forged = f"{header}.{claims}.{signature[::-1]}"
    assert get(served, "/models", forged).status_code == 403


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/openapi", "/", "/models/access", "/nowhere"])
def test_nothing_else_is_served(served: Stack, path: str) -> None:
    assert get(served, path).status_code == 401
    answer = get(served, path, token(served, "viewer"))
    assert answer.status_code == 404, answer.text
    assert answer.json()["title"] == "Not Found"


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/models"), ("DELETE", "/openapi.json"), ("POST", "/jobs/a/completion")]
)
def test_who_is_not_logged_in_learns_nothing_from_a_bad_request(
    served: Stack, method: str, path: str
) -> None:
    with requests.Session() as session:
        session.trust_env = False
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
def test_what_has_no_route_changes_nothing(served: Stack, method: str) -> None:
    """What changes something is in the table above: nothing else does, at any of its paths."""
    changing = {path for of, path in ROUTES if of == method}
    admin = token(served, "admin")
    for (_, route), (path, _) in ROUTES.items():
        if route in changing:
            continue
        answer = ask(served, method, path, admin)
        assert answer.status_code == 405, (method, path)
        assert answer.headers["content-type"] == "application/problem+json"


def test_viewers_are_refused_what_changes_something_and_nothing_else() -> None:
    assert {method for method, _ in ROUTES} == {"GET", "POST", "PUT", "DELETE"}
    for (method, _), (_, expected) in ROUTES.items():
        assert (expected["viewer"] == 403) == (method != "GET")


def test_a_session_says_who_may_start_trainings(served: Stack) -> None:
    said = {
        who: ask(served, "GET", "/session", _token(served, who)).json() for who in SEES_RUNS if who[0] != "a"
    }
    assert {who: each["may_start"] for who, each in said.items()} == {
        "without a role": False,
        "viewer": False,
        "user": True,
    }
    assert said["user"] == {
        "user": "a-user",
        "may_start": True,
        "may_register": True,
        "airflow_url": served.url,
    }

"""A job is stopped, completed, archived and deleted by its owner and by job administrators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
import requests

from include.jobs.repository import JobRepository
from tests.support.jobs import claim, recorded

Send = Callable[[str], requests.Response]

ACTIONS = {
    "stop it": ("POST", "/jobs/a/stop"),
    "complete it": ("POST", "/jobs/a/completion"),
    "archive or unarchive it": ("POST", "/jobs/a/archive"),
    "delete it": ("DELETE", "/jobs/a?confirm=a"),
}
"""Requests by ada; each key is the end of the error message for the request."""


@pytest.fixture
def send(api_url: str, bucket: str) -> Send:
    files = {f"{kind}_checkpoint_path": f"s3://{bucket}/checkpoints/a/{kind}.pt" for kind in ("best", "last")}

    def send(action: str) -> requests.Response:
        method, path = ACTIONS[action]
        body = files if action == "complete it" else None
        return requests.request(method, f"{api_url}{path}", json=body, timeout=60)

    return send


@pytest.fixture
def _active(jobs: JobRepository) -> None:
    """Job a of eve waits for its GPU, so even eve could only stop it."""
    claim(jobs, triggered_by="eve")


@pytest.mark.usefixtures("_active")
@pytest.mark.parametrize("action", ACTIONS)
def test_a_user_cannot_change_a_job_of_somebody_else(
    send: Send, jobs: JobRepository, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    monkeypatch.setenv("JOB_ADMINISTRATORS", "root")
    before = recorded(jobs)
    answer = send(action)
    assert (answer.status_code, answer.json()["detail"]) == (
        403,
        f"job_id='a' belongs to eve; only eve or a job administrator (root) may {action}.",
    )
    assert recorded(jobs) == before


@pytest.mark.usefixtures("_active")
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("setting", "value"), [("JOB_ADMINISTRATORS", "ada,root"), ("JOB_OWNERSHIP", "anyone")]
)
def test_administrators_are_allowed_and_so_is_everybody_if_ownership_is_off(
    send: Send, monkeypatch: pytest.MonkeyPatch, action: str, setting: str, value: str
) -> None:
    monkeypatch.setenv(setting, value)
    # An active job can be stopped, but not completed, archived or deleted.
    assert send(action).status_code == (202 if action == "stop it" else 409)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(("dag_id", "refused"), [("train_yolo", True), (None, False)])
def test_anybody_may_change_a_job_without_an_owner_only_if_a_host_application_wrote_it(
    send: Send, connection: psycopg.Connection[Any], action: str, dag_id: str | None, refused: bool
) -> None:
    connection.execute(
        "INSERT INTO training_jobs (job_id, status, dag_id, run_id) VALUES ('a', 'running', %s, %s)",
        [dag_id, dag_id and "scheduled__1"],
    )
    connection.commit()
    assert (send(action).status_code == 403) is refused

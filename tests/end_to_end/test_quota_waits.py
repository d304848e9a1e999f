"""A job above its user's quota waits in Airflow without a process or a slot, and starts by itself."""

from __future__ import annotations

import psycopg
import pytest
import requests

from include.stack.local import Stack
from tests.support.airflow_client import Airflow, job_row
from tests.support.api_client import get, token
from tests.support.scheduled_trainings import DAG
from tests.support.waiting import until

# tests/tasks/test_quota_at_start.py also shows the wait, without Airflow.
pytestmark = [pytest.mark.timeout(600), pytest.mark.long]

USER = "limited"
"""The user who may have one GPU at a time (tests/conftest.py)."""


def trigger(stack: Stack, bearer: str, job_id: str) -> str:
    """Trigger a run that fails as soon as its dataset is checked."""
    conf = {"job_id": job_id, "dataset": "s3://quota-nowhere/data.zip", "model": "yolo11n"}
    answer = requests.post(
        f"{stack.url}/api/v2/dags/{DAG}/dagRuns",
        json={"logical_date": None, "conf": conf},
        headers={"Authorization": f"Bearer {bearer}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return str(answer.json()["dag_run_id"])


def test_a_job_above_the_quota_waits_without_a_process_and_starts_when_another_has_ended(
    api: Airflow, airflow_stack: Stack
) -> None:
    bearer = token(airflow_stack, "user", USER)
    with psycopg.connect(airflow_stack.training_db_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO training_jobs (job_id, status, dag_id, run_id, triggered_by, queued_at, updated_at) "
            "VALUES ('quota-first', 'running', %s, 'elsewhere', %s, now(), now())",
            [DAG, USER],
        )
        run_id = trigger(airflow_stack, bearer, "quota-second")
        until(
            lambda: api.tasks(DAG, run_id)["resolve_config"] == "up_for_reschedule",
            "a wait for the quota",
        )
        shown = get(airflow_stack, "/jobs/quota-second", bearer).json()
        assert (shown["status"], shown["waits_for_quota"], shown["queue"]) == ("queued", True, None)
        connection.execute("UPDATE training_jobs SET status = 'completed' WHERE job_id = 'quota-first'")

    api.wait(DAG, run_id)
    tasks = api.tasks(DAG, run_id)
    assert (tasks["resolve_config"], tasks["check_dataset"]) == ("success", "failed")
    assert api.attempt(DAG, run_id, "resolve_config")[1] == 1
    assert "quota-nowhere" in job_row(airflow_stack, "quota-second")["error"]

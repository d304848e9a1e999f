"""Jobs that do not end in one of their tasks (cancelled, marked by hand, found dead) also end in MLflow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import requests

from include.jobs.repository import JobRepository
from include.orchestration import marking
from include.tasks.train_yolo import record_unrecorded_failures
from tests.support.airflow_connections import context_of
from tests.support.jobs import claim, recorded, started
from tests.support.waiting import until
from tests.tracking.conftest import Tracking


@pytest.fixture(autouse=True)
def variables(api_url: str, tracking: Tracking, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the environment variables of the API server and of a worker: the connections, and MLflow."""
    tracking.use_environment(monkeypatch)


def test_a_job_that_is_cancelled_in_the_queue_is_killed_in_mlflow(
    api_url: str, jobs: JobRepository, tracking: Tracking
) -> None:
    claim(jobs)
    assert tracking.send_all()["status"] == "SCHEDULED"
    requests.post(f"{api_url}/jobs/a/stop", timeout=60).raise_for_status()
    until(lambda: tracking.run()["status"] == "KILLED", "the end in MLflow")


def test_a_cancelled_job_that_has_trained_before_has_no_metrics_of_best_pt(
    jobs: JobRepository, tracking: Tracking
) -> None:
    started(jobs, epochs=2)
    claim(jobs, run_id="run2", expected="run1")
    jobs.cancel("a")
    run = tracking.send_all()
    assert (run["status"], recorded(jobs).metrics) == ("KILLED", {"loss": 0.5})
    assert not [name for name in run["metrics"] if name.startswith("best/")]


def test_a_run_that_was_marked_manually_has_failed_in_mlflow(jobs: JobRepository, tracking: Tracking) -> None:
    started(jobs)
    assert tracking.send_all()["status"] == "RUNNING"
    run: Any = SimpleNamespace(dag_id="train_yolo", run_id="run1")
    marking.on_dag_run_failed(run, "")
    until(lambda: tracking.run()["status"] == "FAILED", "the end in MLflow")
    assert tracking.run()["tags"]["training.error"].startswith("The run was marked as failed by hand")


def test_a_failure_that_only_a_later_run_records_is_in_mlflow(
    jobs: JobRepository, connection: psycopg.Connection[Any], tracking: Tracking
) -> None:
    started(jobs, epochs=1)
    assert tracking.send_all()["status"] == "RUNNING"
    connection.execute("UPDATE training_jobs SET updated_at = now() - interval '10 minutes'")
    connection.commit()
    ended = SimpleNamespace(get_dr_count=lambda *_, **__: 0)
    record_unrecorded_failures(context_of({}, ti=ended))
    run = tracking.run()
    assert (run["status"], run["tags"]["training.error"]) == ("FAILED", recorded(jobs).error)

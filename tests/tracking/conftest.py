"""A real MLflow server with an experiment for each test, and functions that send data to it and query it."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.jobs.repository import JobRepository
from include.tracking.server import TrackingServer
from tests.support.jobs import epoch_report
from tests.support.mlflow_server import PASSWORD, USERNAME, MlflowServer

if TYPE_CHECKING:
    from include.attempt.tracking import Tracker


@pytest.fixture
def experiment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the test's own experiment; requests to the server bypass any proxy of the machine.

    Timeouts are long, so that a busy machine does not make the server look slow.
    """
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("include.attempt.tracking._LAST_SECONDS", 120)
    monkeypatch.setattr("include.attempt.tracking._RETRY_SECONDS", 1)
    monkeypatch.setattr("include.tracking.server.TIMEOUT_SECONDS", (60, 60))
    return str(request.node.name)


class Tracking:
    """Trackers for one server and one experiment, and queries of that experiment."""

    def __init__(self, mlflow: MlflowServer, experiment: str, migrated_url: str) -> None:
        self.mlflow, self.experiment = mlflow, experiment
        self.open_database = partial(psycopg.connect, migrated_url)

    def server(self, url: str | None = None, password: str = PASSWORD) -> TrackingServer:
        return TrackingServer(url or self.mlflow.url, self.experiment, (USERNAME, password))

    def tracker(
        self, server: TrackingServer | None = None, job_id: str = "a", run_id: str = "run1"
    ) -> Tracker:
        # Imported only here, because this imports Airflow, which reads AIRFLOW_HOME at its import.
        from include.attempt.tracking import Tracker

        return Tracker(server or self.server(), job_id, run_id, self.open_database)

    def send_all(self, job_id: str = "a", run_id: str = "run1") -> dict[str, Any]:
        """Send everything as a later attempt does, and return the job's MLflow run."""
        with self.tracker(job_id=job_id, run_id=run_id) as tracker:
            tracker.end()
        return self.run(job_id)

    def run(self, job_id: str = "a") -> dict[str, Any]:
        """Return the job's only MLflow run."""
        (run,) = self.mlflow.runs(self.experiment, job_id)
        return run

    def steps(self, key: str = "loss") -> list[int]:
        runs = self.mlflow.runs(self.experiment, "a")
        return [step for step, _ in self.mlflow.history(runs[0], key)] if runs else []

    def use_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", self.mlflow.url)
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USERNAME)
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
        monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", self.experiment)


@pytest.fixture
def tracking(mlflow: MlflowServer, experiment: str, migrated_url: str) -> Tracking:
    return Tracking(mlflow, experiment, migrated_url)


def record(jobs: JobRepository, *epochs: int, attempt: int = 1) -> None:
    for epoch in epochs:
        metrics = {"loss": epoch / 4, "metrics/mAP50(B)": 0.25, "val/box_loss": None}
        jobs.record_epoch("a", "run1", attempt, epoch_report(epoch, **metrics))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = (each for each in caplog.records if each.name.startswith("include."))
    return [each.getMessage() for each in ours if each.levelno >= logging.WARNING]

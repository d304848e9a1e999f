"""An MLflow server that fails, hangs or loses responses does not delay training, and gets all data later."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from include.attempt.tracking import track_recorded
from include.jobs.repository import JobRepository
from tests.support.cutting_proxy import CuttingProxy
from tests.support.jobs import claim, record_checkpoints
from tests.support.waiting import until
from tests.tracking.conftest import Tracking, record, warnings

CLOSED = "http://127.0.0.1:9"
"""A URL on which no server listens."""


def test_a_killed_server_gets_the_missing_epochs_and_one_warning_is_logged(
    jobs: JobRepository, tracking: Tracking, caplog: pytest.LogCaptureFixture
) -> None:
    claim(jobs)
    with tracking.tracker() as tracker:
        record(jobs, 0)
        tracker.notify()
        until(lambda: tracking.steps() == [0], "the first epoch in MLflow")
        tracking.mlflow.kill()
        record(jobs, 1)
        tracker.notify()
        until(lambda: bool(warnings(caplog)), "a warning")
        record(jobs, 2, 3)
        tracker.notify()
        tracking.mlflow.start()
        record(jobs, 4)
        tracker.notify()
        until(lambda: tracking.steps() == [0, 1, 2, 3, 4], "every epoch in MLflow")
        tracker.end()
    (warning,) = warnings(caplog)
    assert "cannot be reached (ConnectionError). Training continues" in warning


def test_a_server_that_was_never_reachable_gets_everything_from_the_last_task(
    jobs: JobRepository,
    connection: psycopg.Connection[Any],
    tracking: Tracking,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    claim(jobs)
    with tracking.tracker(tracking.server(CLOSED)) as tracker:
        record(jobs, 0, 1)
        tracker.notify()
        until(lambda: bool(warnings(caplog)), "a warning")
        tracker.end()
    assert "The task notify_backend sends the missing values of job a" in warnings(caplog)[-1]
    record_checkpoints(connection)
    tracking.use_environment(monkeypatch)
    track_recorded("a", tracking.open_database)
    assert (tracking.run()["status"], tracking.steps()) == ("FINISHED", [0, 1])


def test_a_server_that_hangs_does_not_delay_training(
    jobs: JobRepository,
    tracking: Tracking,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("include.attempt.tracking._LAST_SECONDS", 0.2)
    claim(jobs)
    with CuttingProxy(tracking.mlflow.url, sent=0, then="hang") as proxy:
        with tracking.tracker(tracking.server(proxy.endpoint_url)) as tracker:
            assert proxy.failing.wait(60)
            record(jobs, 0, 1)
            tracker.notify()
            tracker.end()
        # Training is over at this point, and no request was answered.
        assert tracking.mlflow.runs(tracking.experiment, "a") == []
    assert "is too slow" in warnings(caplog)[-1]


def test_metrics_whose_response_was_lost_are_not_stored_twice(
    jobs: JobRepository, tracking: Tracking
) -> None:
    claim(jobs)
    record(jobs, *range(40))
    # Only the request with the metrics is that large. The request arrives, but its response is lost.
    with (
        CuttingProxy(tracking.mlflow.url, answer_to_large=6000, cuts=1) as proxy,
        tracking.tracker(tracking.server(proxy.endpoint_url)) as tracker,
    ):
        until(lambda: proxy.cuts == 1, "a lost response")
        record(jobs, 40)
        tracker.notify()
        until(lambda: tracking.steps() == list(range(41)), "every epoch in MLflow, once")
        tracker.end()

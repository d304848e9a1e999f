"""The server that MLflow's variables name is used, or refused without showing secrets."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import psycopg
import pytest

from include.attempt.tracking import Tracker, track_recorded
from include.jobs.repository import JobRepository
from include.tracking.errors import TrackingSettingsError
from include.tracking.server import TrackingServer
from tests.support.jobs import claim
from tests.support.mlflow_server import PASSWORD, USERNAME
from tests.tracking.conftest import Tracking, record, warnings


def test_a_wrong_password_is_not_logged_and_does_not_stop_training(
    jobs: JobRepository, tracking: Tracking, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    claim(jobs)
    with tracking.tracker(tracking.server(password="pa55word")) as tracker:
        record(jobs, 0)
        tracker.end()
    assert "responded with HTTP 401" in warnings(caplog)[-1]
    assert "pa55word" not in caplog.text


@pytest.mark.parametrize("uri", ["http://ada:pa55word@127.0.0.1:9/mlflow", "http://ada:pa55word@[::1]:9"])
def test_credentials_in_the_address_are_used_and_never_shown(
    jobs: JobRepository,
    tracking: Tracking,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    uri: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    server = TrackingServer.from_environment({"MLFLOW_TRACKING_URI": uri})
    assert server is not None
    assert server.credentials == ("ada", "pa55word")
    claim(jobs)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    track_recorded("a", tracking.open_database)
    assert "cannot be reached" in warnings(caplog)[-1]
    assert "pa55word" not in caplog.text + repr(server)


def test_an_address_with_credentials_reaches_the_server(
    jobs: JobRepository, tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(jobs)
    address = tracking.mlflow.url.replace("://", f"://{USERNAME}:{PASSWORD}@")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{address}/")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", tracking.experiment)
    track_recorded("a", tracking.open_database)
    assert tracking.run()["status"] == "SCHEDULED"


@pytest.mark.parametrize(
    "uri",
    [
        "sqlite:///mlflow.db",
        "file:///mlruns",
        "postgresql://ada:pa55word@db/mlflow",
        "databricks",
        "http://",
        "https://ada:pa55word@db:pa55word/",
        "http://[pa55word",
    ],
)
def test_an_invalid_address_is_refused_without_showing_it(
    jobs: JobRepository,
    tracking: Tracking,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    uri: str,
) -> None:
    with pytest.raises(
        TrackingSettingsError, match=r"must be the http:// or https:// address of a tracking server"
    ) as refused:
        TrackingServer.from_environment({"MLFLOW_TRACKING_URI": uri})
    assert "pa55word" not in str(refused.value)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    track_recorded("a", tracking.open_database)
    assert len(warnings(caplog)) == 1


def test_without_the_variable_there_is_no_tracking(
    tracking: Tracking, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    nowhere: Callable[[], Any] = partial(psycopg.connect, "host=127.0.0.1 port=9")
    with Tracker(TrackingServer.from_environment({}), "a", "run1", nowhere) as tracker:
        tracker.notify()
        tracker.end()
    track_recorded("a", nowhere)
    assert tracking.mlflow.runs(tracking.experiment, "a") == []

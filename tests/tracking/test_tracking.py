"""Jobs in MLflow: a real server, killed and restarted, without any effect on training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.attempt.manifest import TrainingManifest
from include.attempt.tracking import Tracker, predict_final_row, track_recorded
from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.store import CheckpointStore
from include.jobs.repository import JobRepository
from include.s3.bucket import Bucket
from include.tracking.errors import TrackingSettingsError
from include.tracking.server import TrackingServer
from tests.support.airflow_client import until
from tests.support.cutting_proxy import CuttingProxy
from tests.support.jobs import claim, epoch_report, record_checkpoints, recorded
from tests.support.mlflow_server import PASSWORD, USERNAME, MlflowServer

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

CLOSED = "http://127.0.0.1:9"
"""Where nobody listens."""


@pytest.fixture
def experiment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An experiment of the test's own; no proxy of the machine stands between it and the server.

    However busy the machine is, the server counts as slow only where a test means it.
    """
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("include.attempt.tracking._LAST_SECONDS", 120)
    monkeypatch.setattr("include.attempt.tracking._RETRY_SECONDS", 1)
    monkeypatch.setattr("include.tracking.server.TIMEOUT_SECONDS", (60, 60))
    return str(request.node.name)


class Tracking:
    """What the tests do and look at: trackers of one server and one experiment."""

    def __init__(self, mlflow: MlflowServer, experiment: str, migrated_url: str) -> None:
        self.mlflow, self.experiment = mlflow, experiment
        self.open_database = partial(psycopg.connect, migrated_url)

    def server(self, url: str | None = None, password: str = PASSWORD) -> TrackingServer:
        return TrackingServer(url or self.mlflow.url, self.experiment, (USERNAME, password))

    def tracker(
        self, server: TrackingServer | None = None, job_id: str = "a", run_id: str = "run1"
    ) -> Tracker:
        return Tracker(server or self.server(), job_id, run_id, self.open_database)

    def send_all(self, job_id: str = "a", run_id: str = "run1") -> dict[str, Any]:
        """What any later attempt does; returns MLflow's run."""
        with self.tracker(job_id=job_id, run_id=run_id) as tracker:
            tracker.end()
        return self.run(job_id)

    def run(self, job_id: str = "a") -> dict[str, Any]:
        """The job's one run."""
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


def test_a_training_appears_with_its_parameters_epochs_and_checkpoints(
    jobs: JobRepository, connection: psycopg.Connection[Any], tracking: Tracking
) -> None:
    claim(jobs, spec={"lr0": 0.01, "dataset": "digits", "seed": None, "overrides": {"cos_lr": True}})
    jobs.start_training("a", "run1", 1, first_epoch=0)
    with tracking.tracker() as tracker:
        record(jobs, 0, 1)
        tracker.notify()
        until(lambda: tracking.steps() == [0, 1], "both epochs in MLflow")
        assert tracking.run()["status"] == "RUNNING"
        record_checkpoints(connection)
        tracker.end()

    run = tracking.run()
    assert (run["name"], run["status"]) == ("a", "FINISHED")
    assert run["params"] == {"lr0": "0.01", "dataset": "digits", "cos_lr": "True"}
    assert run["tags"]["training.origin_run_id"] == run["tags"]["training.run_id"] == "run1"
    assert run["tags"]["mlflow.user"] == "ada"
    for kind, row in (("best", recorded(jobs)), ("last", recorded(jobs))):
        for what in ("path", "sha256", "size"):
            assert run["tags"][f"checkpoint.{kind}.{what}"] == str(getattr(row, f"{kind}_checkpoint_{what}"))
    assert tracking.mlflow.history(run, "metrics/mAP50B") == [(0, 0.25), (1, 0.25)]
    assert tracking.mlflow.history(run, "fitness") == [(0, 0.5), (1, 0.5)]
    assert tracking.mlflow.history(run, "best/metrics/mAP50B") == [(2, 0.9)]
    assert "val/box_loss" not in run["metrics"]


def test_another_attempt_continues_the_same_run_and_repeats_no_point(
    jobs: JobRepository, tracking: Tracking
) -> None:
    claim(jobs)
    jobs.start_training("a", "run1", 1, first_epoch=0)
    record(jobs, 0, 1, 2)
    tracking.send_all()
    jobs.start_training("a", "run1", 2, first_epoch=1)
    record(jobs, 1, 2, 3, attempt=2)
    run = tracking.send_all()
    assert tracking.mlflow.history(run, "loss") == [(0, 0.0), (1, 0.25), (2, 0.5), (3, 0.75)]


def test_another_run_that_goes_on_with_the_job_continues_the_same_run(
    jobs: JobRepository, tracking: Tracking
) -> None:
    claim(jobs)
    record(jobs, 0)
    jobs.fail_run("train_yolo", "run1", "out of memory")
    failed = tracking.send_all()
    assert (failed["status"], failed["tags"]["training.error"]) == ("FAILED", "out of memory")
    claim(jobs, run_id="run2", expected="run1")
    run = tracking.send_all()
    assert (run["id"], run["status"]) == (failed["id"], "SCHEDULED")
    jobs.leave_queue("a", "run2", 1)
    assert tracking.send_all()["status"] == "RUNNING"
    assert (run["tags"]["training.run_id"], run["tags"]["training.error"]) == ("run2", "")


def test_a_job_that_is_started_over_is_a_run_of_its_own(jobs: JobRepository, tracking: Tracking) -> None:
    claim(jobs)
    record(jobs, 0)
    before = tracking.send_all()
    claim(jobs, run_id="run2", expected="run1", fresh=True)
    with tracking.tracker() as overtaken:  # run1 has not noticed yet
        overtaken.end()
    assert tracking.run() == before
    with tracking.tracker(run_id="run2") as tracker:
        tracker.end()
    runs = tracking.mlflow.runs(tracking.experiment, "a")
    assert {run["tags"]["training.origin_run_id"] for run in runs} == {"run1", "run2"}


def test_while_another_attempt_may_be_creating_the_run_nobody_else_does(
    jobs: JobRepository, tracking: Tracking, caplog: pytest.LogCaptureFixture
) -> None:
    claim(jobs)
    record(jobs, 0)
    first, second = tracking.tracker(), tracking.tracker()
    with first._lock():
        with second:
            second.end()
        assert tracking.mlflow.runs(tracking.experiment, "a") == []
    assert "is being updated by another attempt at this job" in warnings(caplog)[0]
    assert tracking.send_all()["status"] == "SCHEDULED"


def test_a_resumed_job_is_shown_below_the_one_that_it_continues(
    jobs: JobRepository, tracking: Tracking
) -> None:
    claim(jobs)
    record(jobs, 0, 1)
    parent = tracking.send_all()
    claim(jobs, "b", "run2", parent_job_id="a", resumed_epoch=1)
    jobs.copy_epochs("a", "b", 1)
    child = tracking.send_all("b", "run2")
    assert child["tags"]["mlflow.parentRunId"] == parent["id"]
    assert child["tags"]["training.parent_job_id"] == "a"
    assert tracking.mlflow.history(child, "loss") == tracking.mlflow.history(parent, "loss")


@pytest.mark.parametrize(("status", "shown"), [("completed", "FINISHED"), ("stopped", "KILLED")])
def test_the_last_task_sends_how_the_job_ended(
    jobs: JobRepository,
    connection: psycopg.Connection[Any],
    tracking: Tracking,
    monkeypatch: pytest.MonkeyPatch,
    status: str,
    shown: str,
) -> None:
    tracking.use_environment(monkeypatch)
    claim(jobs)
    record(jobs, 0, 1)
    record_checkpoints(connection, status=status)
    track_recorded("a", tracking.open_database)
    run = tracking.run()
    assert run["status"] == shown
    assert run["tags"]["checkpoint.last.sha256"] == "c" * 64
    assert tracking.steps() == [0, 1]


def test_train_foresees_what_will_be_recorded(
    jobs: JobRepository, connection: psycopg.Connection[Any], s3_client: S3Client
) -> None:
    claim(jobs)
    record(jobs, 0)
    best = Checkpoint("/training/a/best.pt", "b" * 64, 5368709121, 1)
    last = Checkpoint("/training/a/last.pt", "c" * 64, 5368709122, 2)
    manifest = TrainingManifest(
        job_id="a", run_id="run1", origin_run_id="run1", best=best, last=last, epoch=2, epochs=3,
        start_epoch=0, metrics={"metrics/mAP50(B)": 0.9, "val/box_loss": None}, fitness=0.9,
        stop_reason="completed", seconds=1.0, device="cpu", ultralytics_version="8.4", keep_local=False,
    )  # fmt: skip
    foreseen = predict_final_row(manifest, CheckpointStore(Bucket(s3_client, "bucket")))(recorded(jobs))
    record_checkpoints(connection)
    later = {"durable_epoch": None, "completed_at": None, "updated_at": None}
    assert foreseen.model_copy(update=later) == recorded(jobs).model_copy(update=later)


def test_a_server_that_is_killed_gets_what_it_missed_and_one_warning_is_written(
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


def test_a_server_that_was_away_all_the_time_gets_everything_from_the_last_task(
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
    assert "The task notify_backend sends what is missing of job a" in warnings(caplog)[-1]
    record_checkpoints(connection)
    tracking.use_environment(monkeypatch)
    track_recorded("a", tracking.open_database)
    assert (tracking.run()["status"], tracking.steps()) == ("FINISHED", [0, 1])


def test_a_run_that_somebody_deleted_in_mlflow_is_made_again_with_everything(
    jobs: JobRepository, tracking: Tracking, caplog: pytest.LogCaptureFixture
) -> None:
    claim(jobs)
    with tracking.tracker() as tracker:
        record(jobs, 0, 1)
        tracker.notify()
        until(lambda: tracking.steps() == [0, 1], "both epochs in MLflow")
        tracking.mlflow.delete(tracking.run())
        record(jobs, 2)
        tracker.notify()
        until(lambda: bool(warnings(caplog)), "a warning")
        tracker.end()
    assert tracking.steps() == [0, 1, 2]


def test_a_server_that_hangs_keeps_nobody(
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
        # Here the training is over, and no call was answered.
        assert tracking.mlflow.runs(tracking.experiment, "a") == []
    assert "is too slow" in warnings(caplog)[-1]


def test_what_an_answer_that_got_lost_had_stored_is_not_stored_again(
    jobs: JobRepository, tracking: Tracking
) -> None:
    claim(jobs)
    record(jobs, *range(40))
    # Of all requests only that with the numbers is so large: it arrives, and its answer does not.
    with (
        CuttingProxy(tracking.mlflow.url, answer_to_large=6000, cuts=1) as proxy,
        tracking.tracker(tracking.server(proxy.endpoint_url)) as tracker,
    ):
        until(lambda: proxy.cuts == 1, "an answer that got lost")
        record(jobs, 40)
        tracker.notify()
        until(lambda: tracking.steps() == list(range(41)), "every epoch in MLflow, once")
        tracker.end()


def test_more_numbers_than_one_request_may_have_arrive(jobs: JobRepository, tracking: Tracking) -> None:
    claim(jobs)
    names = [f"metric_{number}" for number in range(10)]
    jobs.fill_epochs("a", ((epoch, dict.fromkeys(names, 0.5), 1.0) for epoch in range(250)))
    run = tracking.send_all()
    assert [len(tracking.mlflow.history(run, name)) for name in names] == [250] * 10


def test_a_wrong_password_is_no_secret_in_the_log_and_stops_nobody(
    jobs: JobRepository, tracking: Tracking, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    claim(jobs)
    with tracking.tracker(tracking.server(password="pa55word")) as tracker:
        record(jobs, 0)
        tracker.end()
    assert "answered 401" in warnings(caplog)[-1]
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
def test_what_is_no_server_is_refused_without_showing_it(
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

"""Jobs on a real MLflow server: one MLflow run for each training run, with all its recorded data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.attempt.manifest import TrainingManifest
from include.attempt.tracking import predict_final_row, track_recorded
from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.store import CheckpointStore
from include.jobs.repository import JobRepository
from include.s3.bucket import Bucket
from tests.support.jobs import claim, record_checkpoints, recorded
from tests.support.waiting import until
from tests.tracking.conftest import Tracking, record, warnings

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client


def test_a_job_appears_with_its_parameters_epochs_and_checkpoints(
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


def test_another_airflow_run_of_the_job_continues_the_same_mlflow_run(
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


def test_a_job_that_is_started_over_gets_a_new_mlflow_run(jobs: JobRepository, tracking: Tracking) -> None:
    claim(jobs)
    record(jobs, 0)
    before = tracking.send_all()
    claim(jobs, run_id="run2", expected="run1", fresh=True)
    with tracking.tracker() as overtaken:  # run1 does not know yet that it was overtaken
        overtaken.end()
    assert tracking.run() == before
    with tracking.tracker(run_id="run2") as tracker:
        tracker.end()
    runs = tracking.mlflow.runs(tracking.experiment, "a")
    assert {run["tags"]["training.origin_run_id"] for run in runs} == {"run1", "run2"}


def test_a_job_starts_in_mlflow_when_it_is_queued_even_if_it_is_started_over(
    jobs: JobRepository, connection: psycopg.Connection[Any], tracking: Tracking
) -> None:
    claim(jobs)
    connection.execute("UPDATE training_jobs SET created_at = now() - interval '1 day'")
    connection.commit()
    claim(jobs, run_id="run2", expected="run1", fresh=True)
    started = tracking.send_all(run_id="run2")["start"]
    jobs.leave_queue("a", "run2", 1)
    queued_at = recorded(jobs).queued_at
    assert queued_at is not None
    assert started == tracking.send_all(run_id="run2")["start"] == int(queued_at.timestamp() * 1000)


def test_only_one_attempt_at_a_time_creates_the_mlflow_run(
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


def test_a_resumed_job_is_shown_below_its_parent(jobs: JobRepository, tracking: Tracking) -> None:
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
def test_the_last_task_sends_the_end_of_the_job(
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


def test_train_predicts_the_row_that_will_be_recorded(
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


def test_a_run_that_was_deleted_in_mlflow_is_recreated_completely(
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


def test_metrics_that_exceed_one_request_arrive_completely(jobs: JobRepository, tracking: Tracking) -> None:
    claim(jobs)
    names = [f"metric_{number}" for number in range(10)]
    jobs.fill_epochs("a", ((epoch, dict.fromkeys(names, 0.5), 1.0) for epoch in range(250)))
    run = tracking.send_all()
    assert [len(tracking.mlflow.history(run, name)) for name in names] == [250] * 10

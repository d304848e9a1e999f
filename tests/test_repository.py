"""Who owns a job is decided by one statement, and only the owner writes: on a real PostgreSQL."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from include.jobs.job import JobStatus, TrainingJob
from include.jobs.queries import query
from include.jobs.repository import (
    JobRepository,
    JobTaken,
    OwnershipLost,
)
from include.schema.migrations import apply
from include.stack.postgres import Postgres
from include.training.contract import EpochReport
from tests import platforms
from tests.jobs import claim, epoch_report


@pytest.fixture(scope="module")
def migrated_url(postgres: Postgres) -> Iterator[str]:
    with platforms.fresh_schema(postgres) as url:
        apply(platforms.engine(url))
        yield url


@pytest.fixture
def connection(migrated_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(migrated_url) as connection:
        yield connection
        connection.execute("TRUNCATE training_jobs, training_epochs")


@pytest.fixture
def jobs(connection: psycopg.Connection[Any]) -> JobRepository:
    return JobRepository(connection)


def _record_checkpoints(connection: psycopg.Connection[Any], run_id: str = "run1") -> int:
    """As `record_checkpoints` runs it: every value is a rendered template, so a string."""
    parameters = {
        "job_id": "a",
        "run_id": run_id,
        "epoch": "2",
        "metrics": '{"metrics/mAP50(B)": 0.9, "val/box_loss": null}',
        "best_checkpoint_path": "s3://bucket/checkpoints/a/best.pt",
        "best_checkpoint_sha256": "b" * 64,
        "best_checkpoint_size": "5368709121",
        "last_checkpoint_path": "s3://bucket/checkpoints/a/last.pt",
        "last_checkpoint_sha256": "c" * 64,
        "last_checkpoint_size": "5368709122",
    }
    written = len(connection.execute(query("record_checkpoints"), parameters).fetchall())
    connection.commit()
    return written


def test_a_job_that_is_not_there_is_none(jobs: JobRepository) -> None:
    assert jobs.get("a") is None


def test_a_claim_creates_the_row(jobs: JobRepository) -> None:
    claimed = claim(jobs)
    assert claimed == jobs.get("a")
    assert claimed.status == JobStatus.RUNNING
    assert (claimed.dag_id, claimed.run_id, claimed.triggered_by) == ("train_yolo", "run1", "ada")
    assert (claimed.spec, claimed.epochs, claimed.stop_requested) == ({"lr0": 0.01}, 3, False)
    assert claimed.created_at == claimed.started_at == claimed.updated_at
    assert claimed.created_at is not None
    assert claimed.created_at.tzinfo is not None


def test_a_claim_is_committed_at_once(jobs: JobRepository, migrated_url: str) -> None:
    claim(jobs)
    with psycopg.connect(migrated_url) as other:
        assert JobRepository(other).get("a") is not None


def test_a_claim_starts_a_finished_job_anew(jobs: JobRepository, connection: psycopg.Connection[Any]) -> None:
    first = claim(jobs, parent_job_id="z")
    jobs.record_epoch("a", "run1", epoch_report())
    assert _record_checkpoints(connection) == 1
    again = claim(jobs, run_id="run2", expected="run1", spec={}, epochs=None)
    assert again.model_dump(exclude={"created_at", "started_at", "updated_at"}) == {
        "job_id": "a",
        "status": "running",
        "stop_requested": False,
        "dag_id": "train_yolo",
        "run_id": "run2",
        "spec": {},
        "triggered_by": "ada",
    } | dict.fromkeys(
        name
        for name in TrainingJob.model_fields
        if "checkpoint" in name
        or name in {"parent_job_id", "epoch", "epochs", "metrics", "error", "completed_at"}
    )
    assert again.created_at == first.created_at
    assert again.started_at != first.started_at
    assert jobs.epochs("a") == []


def test_a_run_that_claims_its_own_job_again_keeps_its_progress(jobs: JobRepository) -> None:
    claim(jobs)
    jobs.record_epoch("a", "run1", epoch_report(epoch=1, loss=0.5))
    again = claim(jobs, expected="run1")
    assert (again.epoch, again.metrics) == (1, {"loss": 0.5})
    assert [epoch.epoch for epoch in jobs.epochs("a")] == [1]


@pytest.mark.parametrize("seen", [None, "run0"])
def test_a_job_that_changed_hands_meanwhile_is_not_taken(jobs: JobRepository, seen: str | None) -> None:
    owned = claim(jobs)
    with pytest.raises(JobTaken, match="Job a was taken by another run while run run2"):
        claim(jobs, run_id="run2", expected=seen)
    assert jobs.get("a") == owned


@pytest.mark.parametrize("existing", [True, False])
def test_of_many_runs_that_claim_at_once_one_wins(
    jobs: JobRepository, migrated_url: str, existing: bool
) -> None:
    if existing:
        claim(jobs, run_id="run0")
    start = threading.Barrier(8)
    outcomes: list[str] = []

    def compete(run_id: str) -> None:
        with psycopg.connect(migrated_url) as own:
            start.wait()
            try:
                claim(JobRepository(own), run_id=run_id, expected="run0" if existing else None)
                outcomes.append(run_id)
            except JobTaken:
                outcomes.append("taken")

    runs = [threading.Thread(target=compete, args=[f"run{number}"]) for number in range(1, 9)]
    for run in runs:
        run.start()
    for run in runs:
        run.join()
    (winner,) = set(outcomes) - {"taken"}
    assert outcomes.count("taken") == 7
    row = jobs.get("a")
    assert row is not None
    assert row.run_id == winner


def test_an_epoch_is_a_row_and_the_jobs_own_numbers(jobs: JobRepository) -> None:
    claim(jobs, epochs=None)
    jobs.record_epoch("a", "run1", epoch_report(epoch=1, loss=0.5))
    row, (epoch,) = jobs.get("a"), jobs.epochs("a")
    assert row is not None
    assert (row.epoch, row.epochs, row.metrics) == (1, 3, {"loss": 0.5})
    assert (epoch.epoch, epoch.metrics, epoch.fitness) == (1, {"loss": 0.5}, 0.5)
    assert (epoch.seconds, epoch.eta_seconds) == (1.5, 3.0)


def test_an_epoch_recorded_twice_is_one_row_with_the_newer_numbers(jobs: JobRepository) -> None:
    claim(jobs)
    jobs.record_epoch("a", "run1", epoch_report(loss=0.5))
    jobs.record_epoch("a", "run1", epoch_report(loss=0.25))
    assert [epoch.metrics for epoch in jobs.epochs("a")] == [{"loss": 0.25}]


def test_numbers_that_are_not_finite_are_null(jobs: JobRepository) -> None:
    claim(jobs, spec={"nested": [math.inf, {"x": math.nan}]})
    jobs.record_epoch(
        "a",
        "run1",
        EpochReport(0, 3, {"loss": math.nan, "lr": -math.inf, "ok": 1.0}, math.nan, 1.0, math.inf),
    )
    row, (epoch,) = jobs.get("a"), jobs.epochs("a")
    assert row is not None
    assert row.spec == {"nested": [None, {"x": None}]}
    assert row.metrics == epoch.metrics == {"loss": None, "lr": None, "ok": 1.0}
    assert (epoch.fitness, epoch.eta_seconds) == (None, None)


def test_a_run_that_lost_the_job_writes_no_epoch(jobs: JobRepository) -> None:
    claim(jobs)
    owned = claim(jobs, run_id="run2", expected="run1")
    with pytest.raises(OwnershipLost, match="Job a does not belong to run run1 any more"):
        jobs.record_epoch("a", "run1", epoch_report())
    assert jobs.get("a") == owned
    assert jobs.epochs("a") == []


def test_a_failure_is_recorded_once(jobs: JobRepository) -> None:
    claim(jobs)
    assert jobs.fail_run("train_yolo", "run1", "out of memory") == "a"
    assert jobs.fail_run("train_yolo", "run1", "killed") is None
    row = jobs.get("a")
    assert row is not None
    assert (row.status, row.error, row.completed_at) == ("failed", "out of memory", None)


@pytest.mark.parametrize(("dag_id", "run_id"), [("train_yolo", "run2"), ("other_dag", "run1")])
def test_a_run_fails_no_job_but_its_own(jobs: JobRepository, dag_id: str, run_id: str) -> None:
    owned = claim(jobs)
    assert jobs.fail_run(dag_id, run_id, "refused") is None
    assert jobs.get("a") == owned


def test_a_completed_job_is_not_failed_afterwards(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs)
    _record_checkpoints(connection)
    assert jobs.fail_run("train_yolo", "run1", "notify_backend") is None


def test_both_checkpoints_are_recorded_from_strings(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs)
    assert _record_checkpoints(connection) == 1
    row = jobs.get("a")
    assert row is not None
    assert (row.status, row.epoch, row.error) == ("completed", 2, None)
    assert row.metrics == {"metrics/mAP50(B)": 0.9, "val/box_loss": None}
    assert row.best_checkpoint_path == "s3://bucket/checkpoints/a/best.pt"
    assert row.last_checkpoint_path == "s3://bucket/checkpoints/a/last.pt"
    assert (row.best_checkpoint_sha256, row.last_checkpoint_sha256) == ("b" * 64, "c" * 64)
    assert (row.best_checkpoint_size, row.last_checkpoint_size) == (5368709121, 5368709122)
    assert row.completed_at is not None


def test_checkpoints_recorded_twice_are_recorded_once(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs)
    _record_checkpoints(connection)
    first = jobs.get("a")
    assert _record_checkpoints(connection) == 1
    second = jobs.get("a")
    assert first is not None
    assert second is not None
    assert second.model_dump(exclude={"updated_at"}) == first.model_dump(exclude={"updated_at"})


def test_a_run_that_does_not_own_the_job_records_no_checkpoints(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    owned = claim(jobs)
    assert _record_checkpoints(connection, run_id="run2") == 0
    assert jobs.get("a") == owned


def test_a_resumed_job_takes_its_parents_epochs_along(jobs: JobRepository) -> None:
    claim(jobs, "parent")
    for number in range(3):
        jobs.record_epoch("parent", "run1", epoch_report(number, loss=number / 2))
    claim(jobs, "child", parent_job_id="parent")
    assert jobs.copy_epochs("parent", "child", 1) == 2
    assert jobs.copy_epochs("parent", "child", 1) == 0
    assert jobs.epochs("child") == jobs.epochs("parent")[:2]


def test_a_refusal_is_not_written_into_a_row_that_is_owned(jobs: JobRepository) -> None:
    claim(jobs)
    assert jobs.refuse("a", "refused") is False
    assert jobs.refuse("b", "refused") is False


def test_an_attempt_that_begins_reopens_the_row_and_forgets_the_epochs_it_repeats(
    connection: psycopg.Connection[Any], jobs: JobRepository
) -> None:
    claim(jobs)
    for epoch in range(3):
        jobs.record_epoch("a", "run1", epoch_report(epoch))
    _record_checkpoints(connection)
    assert jobs.start_training("a", "run1", first_epoch=1) == 2
    job = jobs.get("a")
    assert job is not None
    assert (job.status, job.best_checkpoint_path, job.last_checkpoint_sha256) == ("running", None, None)
    assert [each.epoch for each in jobs.epochs("a")] == [0]


def test_an_attempt_of_a_run_that_lost_the_job_does_not_begin(jobs: JobRepository) -> None:
    claim(jobs)
    jobs.record_epoch("a", "run1", epoch_report(0))
    with pytest.raises(OwnershipLost):
        jobs.start_training("a", "run2", first_epoch=0)
    assert [each.epoch for each in jobs.epochs("a")] == [0]


def test_a_job_that_failed_again_after_it_was_cleared_has_the_newer_reason(jobs: JobRepository) -> None:
    claim(jobs)
    jobs.fail_run("train_yolo", "run1", "no images")
    assert jobs.fail_run("train_yolo", "run1", "no labels", again=True) == "a"
    assert jobs.fail_run("train_yolo", "run1", "killed") is None
    job = jobs.get("a")
    assert job is not None
    assert job.error == "no labels"


def test_only_the_owner_of_a_job_may_go_on_with_it(jobs: JobRepository) -> None:
    claim(jobs)
    jobs.require_owner("a", "run1")
    with pytest.raises(OwnershipLost):
        jobs.require_owner("a", "run2")
    with pytest.raises(OwnershipLost):
        jobs.require_owner("b", "run1")

"""Only the run that owns a job records its epochs, failures and checkpoints; on PostgreSQL."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from include.errors import OwnershipLost
from include.jobs.repository import JobRepository
from tests.support.jobs import claim, epoch_report, record_checkpoints, recorded, started


def test_an_unknown_job_is_returned_as_none(jobs: JobRepository) -> None:
    assert jobs.get("a") is None


def test_an_epoch_is_recorded_in_its_own_row_and_in_that_of_the_job(jobs: JobRepository) -> None:
    claim(jobs, epochs=None)
    jobs.record_epoch("a", "run1", 1, epoch_report(epoch=1, loss=0.5))
    row, (epoch,) = recorded(jobs), jobs.list_epochs("a")
    assert (row.epoch, row.epochs, row.metrics) == (1, 3, {"loss": 0.5})
    assert (epoch.epoch, epoch.metrics, epoch.fitness) == (1, {"loss": 0.5}, 0.5)
    assert (epoch.seconds, epoch.eta_seconds) == (1.5, 3.0)


def test_an_epoch_recorded_twice_is_one_row_with_the_newer_numbers(jobs: JobRepository) -> None:
    claim(jobs)
    jobs.record_epoch("a", "run1", 1, epoch_report(loss=0.5))
    jobs.record_epoch("a", "run1", 1, epoch_report(loss=0.25))
    assert [epoch.metrics for epoch in jobs.list_epochs("a")] == [{"loss": 0.25}]


def test_numbers_that_are_not_finite_are_null(jobs: JobRepository) -> None:
    claim(jobs, spec={"nested": [math.inf, {"x": math.nan}]})
    report = epoch_report(loss=math.nan, lr=-math.inf, ok=1.0)
    jobs.record_epoch("a", "run1", 1, replace(report, fitness=math.nan, eta_seconds=math.inf))
    row, (epoch,) = recorded(jobs), jobs.list_epochs("a")
    assert row.spec == {"nested": [None, {"x": None}]}
    assert row.metrics == epoch.metrics == {"loss": None, "lr": None, "ok": 1.0}
    assert (epoch.fitness, epoch.eta_seconds) == (None, None)


def test_a_run_that_lost_its_job_records_no_epoch(jobs: JobRepository) -> None:
    claim(jobs)
    owned = claim(jobs, run_id="run2", expected="run1")
    with pytest.raises(OwnershipLost, match="Job a no longer belongs to run run1"):
        jobs.record_epoch("a", "run1", 1, epoch_report())
    assert jobs.get("a") == owned
    assert jobs.list_epochs("a") == []


def test_a_failure_is_recorded_once(jobs: JobRepository) -> None:
    claim(jobs)
    assert jobs.fail_run("train_yolo", "run1", "out of memory") == "a"
    assert jobs.fail_run("train_yolo", "run1", "killed") is None
    row = recorded(jobs)
    assert (row.status, row.error, row.completed_at) == ("failed", "out of memory", None)


def test_characters_that_postgres_cannot_store_are_escaped_in_an_error(
    jobs: JobRepository,
) -> None:
    claim(jobs, "a")
    jobs.start_training("a", "run1", attempt=1, first_epoch=0)
    jobs.record_inexact("a", "run1", 1, "a \0")
    assert jobs.fail_run("train_yolo", "run1", "label \0 of \ud800.jpg") == "a"
    recorded = jobs.get("a")
    assert recorded is not None
    assert (recorded.error, recorded.inexact_reason) == (r"label \x00 of \ud800.jpg", r"a \x00")


@pytest.mark.parametrize(("dag_id", "run_id"), [("train_yolo", "run2"), ("other_dag", "run1")])
def test_a_run_fails_only_its_own_job(jobs: JobRepository, dag_id: str, run_id: str) -> None:
    owned = claim(jobs)
    assert jobs.fail_run(dag_id, run_id, "refused") is None
    assert jobs.get("a") == owned


@pytest.mark.parametrize("status", ["completed", "stopped"])
def test_an_ended_job_is_not_recorded_as_failed_afterwards(
    jobs: JobRepository, connection: psycopg.Connection[Any], status: str
) -> None:
    claim(jobs)
    record_checkpoints(connection, status=status)
    ended = recorded(jobs)
    assert jobs.fail_run("train_yolo", "run1", "notify_backend", again=True) is None
    assert recorded(jobs) == ended


def test_both_checkpoints_are_recorded_from_strings(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs)
    assert record_checkpoints(connection) == 1
    row = recorded(jobs)
    assert (row.status, row.epoch, row.durable_epoch, row.error) == ("completed", 2, 2, None)
    assert row.metrics == {"metrics/mAP50(B)": 0.9, "val/box_loss": None}
    assert row.best_checkpoint_path == "s3://bucket/checkpoints/a/best.pt"
    assert row.last_checkpoint_path == "s3://bucket/checkpoints/a/last.pt"
    assert (row.best_checkpoint_sha256, row.last_checkpoint_sha256) == ("b" * 64, "c" * 64)
    assert (row.best_checkpoint_size, row.last_checkpoint_size) == (5368709121, 5368709122)
    assert row.completed_at is not None


def test_recording_checkpoints_twice_changes_only_the_time(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs)
    record_checkpoints(connection)
    first = recorded(jobs)
    assert record_checkpoints(connection) == 1
    second = recorded(jobs)
    assert second.model_dump(exclude={"updated_at"}) == first.model_dump(exclude={"updated_at"})


def test_a_run_that_does_not_own_the_job_records_no_checkpoints(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    owned = claim(jobs)
    assert record_checkpoints(connection, run_id="run2") == 0
    assert jobs.get("a") == owned


def test_a_resumed_job_gets_copies_of_its_parents_epochs(jobs: JobRepository) -> None:
    claim(jobs, "parent")
    for number in range(3):
        jobs.record_epoch("parent", "run1", 1, epoch_report(number, loss=number / 2))
    claim(jobs, "child", parent_job_id="parent")
    assert jobs.copy_epochs("parent", "child", 1) == 2
    assert jobs.copy_epochs("parent", "child", 1) == 0
    assert jobs.list_epochs("child") == jobs.list_epochs("parent")[:2]


def test_a_refusal_is_not_recorded_for_a_claimed_job(jobs: JobRepository) -> None:
    claim(jobs)
    assert jobs.refuse("a", "refused") is False
    assert jobs.refuse("b", "refused") is False


def test_a_job_that_failed_again_after_it_was_cleared_has_the_newer_reason(jobs: JobRepository) -> None:
    claim(jobs)
    jobs.fail_run("train_yolo", "run1", "no images")
    assert jobs.fail_run("train_yolo", "run1", "no labels", again=True) == "a"
    assert jobs.fail_run("train_yolo", "run1", "killed") is None
    assert recorded(jobs).error == "no labels"


def test_only_the_run_that_owns_a_job_passes_the_owner_check(jobs: JobRepository) -> None:
    claim(jobs)
    jobs.require_owner("a", "run1")
    with pytest.raises(OwnershipLost):
        jobs.require_owner("a", "run2")
    with pytest.raises(OwnershipLost):
        jobs.require_owner("b", "run1")


def test_epochs_that_an_interrupted_run_could_not_record_are_added(
    jobs: JobRepository,
) -> None:
    started(jobs, epochs=3)
    before = jobs.list_epochs("a")
    finished = [(epoch, {"loss": epoch / 2, "odd": float("nan")}, 1.5) for epoch in range(2500)]
    assert jobs.fill_epochs("a", finished) == 2497
    assert jobs.fill_epochs("a", finished) == 0
    after = jobs.list_epochs("a")
    assert after[:3] == before
    assert [each.epoch for each in after] == [*range(2500)]
    assert (after[-1].metrics, after[-1].seconds) == ({"loss": 1249.5, "odd": None}, 1.5)


def test_missing_epochs_are_added_in_batches_and_not_by_one_statement_each(
    jobs: JobRepository, owner: psycopg.Connection[Any]
) -> None:
    started(jobs, epochs=3)
    owner.execute("CREATE TABLE inserts (number integer)")
    owner.execute(
        "CREATE FUNCTION count_insert() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS "
        "$$ BEGIN INSERT INTO inserts VALUES (1); RETURN NULL; END $$"
    )
    owner.execute(
        "CREATE TRIGGER count_insert AFTER INSERT ON training_epochs "
        "FOR EACH STATEMENT EXECUTE FUNCTION count_insert()"
    )
    try:
        jobs.fill_epochs("a", [(epoch, {}, 1.0) for epoch in range(2500)])
        assert owner.execute("SELECT count(*) FROM inserts").fetchone() == (3,)
    finally:
        owner.execute("DROP TABLE inserts CASCADE")
        owner.execute("DROP FUNCTION count_insert CASCADE")

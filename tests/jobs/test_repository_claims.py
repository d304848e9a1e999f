"""One statement decides which run owns a job and whose training it continues: on a real PostgreSQL."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from include.jobs.job import JobStatus, TrainingJob
from include.jobs.repository import JobRepository, JobTaken
from tests.support.jobs import claim, epoch_report, record_checkpoints, recorded, started, wait_until_blocked

TIMES = {"created_at", "queued_at", "updated_at"}


def test_a_claim_creates_the_row(jobs: JobRepository) -> None:
    claimed = claim(jobs, parent_job_id="z", resumed_epoch=4)
    assert claimed == jobs.get("a")
    assert claimed.status == JobStatus.QUEUED
    assert (claimed.dag_id, claimed.run_id, claimed.triggered_by) == ("train_yolo", "run1", "ada")
    assert (claimed.origin_run_id, claimed.attempt, claimed.durable_epoch) == ("run1", None, None)
    assert (claimed.parent_job_id, claimed.resumed_epoch) == ("z", 4)
    assert (claimed.spec, claimed.epochs, claimed.stop_requested) == ({"lr0": 0.01}, 3, False)
    assert claimed.created_at == claimed.queued_at == claimed.updated_at
    assert (claimed.started_at, claimed.waited_seconds) == (None, None)
    assert claimed.created_at is not None
    assert claimed.created_at.tzinfo is not None


def test_a_claim_is_committed_immediately(jobs: JobRepository, migrated_url: str) -> None:
    claim(jobs)
    with psycopg.connect(migrated_url) as other:
        assert JobRepository(other).get("a") is not None


@pytest.mark.parametrize("end", ["killed", "failed", "stopped"])
def test_a_claim_keeps_the_progress_of_another_run(
    jobs: JobRepository, connection: psycopg.Connection[Any], end: str
) -> None:
    started(jobs, epochs=3)
    jobs.record_inexact("a", "run1", 1, "batch was halved")
    if end == "failed":
        jobs.fail_run("train_yolo", "run1", "out of memory")
    if end == "stopped":
        record_checkpoints(connection, status="stopped")
    before, epochs = recorded(jobs), jobs.list_epochs("a")
    claimed = claim(jobs, run_id="run2", expected="run1", spec={}, triggered_by="eve")
    times = {"queued_at", "updated_at"}
    assert claimed.model_dump(exclude=times) == before.model_dump(exclude=times) | {
        "status": "queued",
        "run_id": "run2",
        "attempt": None,
        "spec": {},
        "triggered_by": "eve",
        "error": None,
    } | dict.fromkeys(name for name in TrainingJob.model_fields if "checkpoint" in name)
    assert (claimed.origin_run_id, claimed.durable_epoch) == ("run1", 2)
    assert jobs.list_epochs("a") == epochs
    assert len(epochs) == 3


def test_the_origin_stays_the_same_for_all_later_runs(jobs: JobRepository) -> None:
    claim(jobs)
    claim(jobs, run_id="run2", expected="run1")
    assert claim(jobs, run_id="run3", expected="run2").origin_run_id == "run1"


def test_the_origin_of_a_row_without_one_is_the_run_that_trained_it(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    started(jobs, epochs=2)
    connection.execute("UPDATE training_jobs SET origin_run_id = NULL, attempt = NULL, durable_epoch = NULL")
    connection.commit()
    assert recorded(jobs).origin_run_id == "run1"
    claimed = claim(jobs, run_id="run2", expected="run1")
    assert (claimed.origin_run_id, claimed.epoch) == ("run1", 1)


def test_a_claim_without_epochs_keeps_the_planned_number(jobs: JobRepository) -> None:
    started(jobs, epochs=1)
    assert claim(jobs, run_id="run2", expected="run1", epochs=None).epochs == 3


def test_a_fresh_claim_resets_the_job(jobs: JobRepository, connection: psycopg.Connection[Any]) -> None:
    first = started(jobs, epochs=2)
    jobs.record_inexact("a", "run1", 1, "batch was halved")
    record_checkpoints(connection)
    claimed = claim(jobs, run_id="run2", expected="run1", epochs=None, fresh=True)
    assert claimed.model_dump(exclude=TIMES) == dict.fromkeys(TrainingJob.model_fields.keys() - TIMES) | {
        "job_id": "a",
        "status": "queued",
        "stop_requested": False,
        "stop_after_epoch": False,
        "dag_id": "train_yolo",
        "run_id": "run2",
        "origin_run_id": "run2",
        "spec": {"lr0": 0.01},
        "pinned": False,
        "waits_for_quota": False,
        "triggered_by": "ada",
    }
    assert claimed.created_at == first.created_at
    assert claimed.queued_at != first.queued_at
    assert jobs.list_epochs("a") == []


@pytest.mark.parametrize("fresh", [False, True])
def test_a_run_that_claims_its_own_job_again_keeps_its_progress(jobs: JobRepository, fresh: bool) -> None:
    claim(jobs, run_id="run0")
    claim(jobs, expected="run0", fresh=fresh)
    jobs.start_training("a", "run1", 1, first_epoch=0)
    jobs.record_epoch("a", "run1", 1, epoch_report(epoch=1, loss=0.5))
    before = recorded(jobs)
    again = claim(jobs, expected="run1", fresh=fresh)
    assert (again.origin_run_id, again.started_at) == ("run1" if fresh else "run0", before.started_at)
    assert (again.epoch, again.metrics) == (1, {"loss": 0.5})
    assert [epoch.epoch for epoch in jobs.list_epochs("a")] == [1]


def test_an_attempt_continues_when_its_run_claims_the_job_again(jobs: JobRepository) -> None:
    started(jobs, attempt=2)
    claim(jobs, expected="run1")
    jobs.record_epoch("a", "run1", 2, epoch_report())
    jobs.record_durable("a", "run1", 2, 0)
    assert recorded(jobs).durable_epoch == 0


def test_a_run_that_was_deleted_and_recreated_counts_attempts_from_one(jobs: JobRepository) -> None:
    started(jobs, attempt=7)
    claim(jobs, expected="run1")
    jobs.start_training("a", "run1", 1, first_epoch=0)
    assert recorded(jobs).attempt == 1


def test_a_new_row_has_no_epochs_of_a_deleted_job(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    started(jobs, epochs=2)
    connection.execute("DELETE FROM training_jobs")
    connection.commit()
    claim(jobs)
    assert jobs.list_epochs("a") == []


@pytest.mark.parametrize("seen", [None, "run0"])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_job_that_another_run_has_taken_meanwhile_is_not_claimed(
    jobs: JobRepository, seen: str | None, fresh: bool
) -> None:
    owned = started(jobs, epochs=1)
    with pytest.raises(JobTaken, match="Job a was taken by another run while run run2"):
        claim(jobs, run_id="run2", expected=seen, fresh=fresh)
    assert jobs.get("a") == owned
    assert len(jobs.list_epochs("a")) == 1


@pytest.mark.parametrize("existing", [True, False])
def test_only_one_of_many_concurrent_claims_wins(
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
    assert recorded(jobs).run_id == winner


@pytest.mark.parametrize("fresh", [False, True])
def test_an_epoch_written_during_a_claim_is_kept_unless_the_claim_is_fresh(
    jobs: JobRepository, connection: psycopg.Connection[Any], migrated_url: str, fresh: bool
) -> None:
    started(jobs, epochs=1)
    with psycopg.connect(migrated_url) as other, ThreadPoolExecutor() as threads:
        with connection.transaction():
            jobs.record_epoch("a", "run1", 1, epoch_report(1))
            claiming = threads.submit(
                claim, JobRepository(other), run_id="run2", expected="run1", fresh=fresh
            )
            wait_until_blocked(connection, other.info.backend_pid)
        claimed = claiming.result()
    assert claimed == recorded(jobs)
    assert (claimed.run_id, claimed.epoch) == ("run2", None if fresh else 1)
    assert [epoch.epoch for epoch in jobs.list_epochs("a")] == ([] if fresh else [0, 1])

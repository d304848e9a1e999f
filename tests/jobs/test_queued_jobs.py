"""A job is queued until it has its GPU: its row while it waits, and the effect on its recorded times."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.api.job_response import build_response
from include.deployment.settings import DEFAULT_BUCKET
from include.errors import OwnershipLost
from include.jobs.job import JobStatus
from include.jobs.repository import JobRepository
from include.schema.migrations import apply
from include.training.gpus import Hardware
from tests.support import host_applications
from tests.support.jobs import claim, recorded, started


def let_pass(connection: psycopg.Connection[Any], seconds: float) -> None:
    """Move the start, the wait and the attempts of job a into the past by this many seconds."""
    moved = {"training_jobs": ("started_at", "queued_at"), "gpu_usage": ("started_at", "seen_at")}
    for table, columns in moved.items():
        changes = ", ".join(f"{column} = {column} - %(time)s" for column in columns)
        connection.execute(f"UPDATE {table} SET {changes}", {"time": timedelta(seconds=seconds)})
    connection.commit()


def waits(connection: psycopg.Connection[Any], seconds: int, job_id: str = "a") -> None:
    """Change the row as if the job had waited for this many seconds."""
    connection.execute(
        "UPDATE training_jobs SET queued_at = now() - make_interval(secs => %s) WHERE job_id = %s",
        [seconds, job_id],
    )
    connection.commit()


def test_a_job_is_queued_until_an_attempt_has_its_gpu(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    assert claim(jobs).status == JobStatus.QUEUED
    waits(connection, 583)
    jobs.leave_queue("a", "run1", 1, Hardware("gpu-7", "NVIDIA H200", "550.54.15"))
    job = recorded(jobs)
    assert (job.status, job.attempt) == (JobStatus.RUNNING, 1)
    assert (job.machine, job.gpu_name, job.gpu_driver) == ("gpu-7", "NVIDIA H200", "550.54.15")
    assert job.waited_seconds == pytest.approx(583, abs=5)
    assert job.started_at == job.updated_at


def test_waiting_counts_neither_for_the_duration_nor_for_the_goodput(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs)
    waits(connection, 583)
    assert build_response(recorded(jobs), connection, DEFAULT_BUCKET).duration_seconds is None
    jobs.leave_queue("a", "run1", 1)
    connection.execute(
        "UPDATE training_jobs SET started_at = started_at - interval '60 s', trained_seconds = 45"
    )
    shown = build_response(recorded(jobs), connection, DEFAULT_BUCKET)
    assert shown.duration_seconds == pytest.approx(60, abs=2)
    assert shown.progress.goodput == pytest.approx(0.75, abs=0.03)


def test_the_duration_of_a_job_is_the_time_in_which_its_attempts_had_gpus(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs)
    for run_id, attempt, seconds in (("run1", 1, 60), ("run1", 2, 30), ("run2", 1, 10)):
        jobs.leave_queue("a", run_id, attempt)
        let_pass(connection, seconds)
        jobs.record_durable("a", run_id, attempt, 0)  # the attempt's last sign of life
        let_pass(connection, 1000)
        if (run_id, attempt) == ("run1", 2):
            jobs.fail_run("train_yolo", "run1", "the machine burnt down")
            let_pass(connection, 5000)
            claim(jobs, run_id="run2", expected="run1")
            let_pass(connection, 700)
            assert build_response(
                recorded(jobs), connection, DEFAULT_BUCKET
            ).duration_seconds == pytest.approx(90, abs=2)
    connection.execute("UPDATE training_jobs SET trained_seconds = 75")
    shown = build_response(recorded(jobs), connection, DEFAULT_BUCKET)
    assert shown.waited_seconds == pytest.approx(700, abs=5)
    assert shown.duration_seconds == pytest.approx(100, abs=3)
    assert shown.progress.goodput == pytest.approx(0.75, abs=0.03)


def test_the_attempts_of_a_deleted_job_with_the_same_id_do_not_count(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    started(jobs)
    let_pass(connection, 500)
    jobs.record_durable("a", "run1", 1, 0)
    connection.execute("DELETE FROM training_jobs")
    started(jobs)
    let_pass(connection, 20)
    jobs.record_durable("a", "run1", 1, 0)
    assert build_response(recorded(jobs), connection, DEFAULT_BUCKET).duration_seconds == pytest.approx(
        20, abs=2
    )


def test_between_two_attempts_a_job_is_still_running_and_keeps_its_start(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    before = started(jobs, epochs=1)
    jobs.leave_queue("a", "run1", 2)
    job = recorded(jobs)
    assert (job.status, job.attempt, job.started_at) == (JobStatus.RUNNING, 2, before.started_at)
    assert job.waited_seconds == before.waited_seconds


def test_a_job_that_another_run_takes_over_waits_again(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    before = started(jobs, epochs=1)
    claimed = claim(jobs, run_id="run2", expected="run1")
    assert (claimed.status, claimed.started_at) == (JobStatus.QUEUED, before.started_at)
    waits(connection, 100)
    jobs.leave_queue("a", "run2", 1)
    assert recorded(jobs).waited_seconds == pytest.approx(100, abs=5)


def test_a_run_that_claims_its_waiting_job_again_keeps_its_place(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs)
    waits(connection, 100)
    before = recorded(jobs).queued_at
    assert claim(jobs, expected="run1").queued_at == before
    assert claim(jobs, run_id="run2", expected="run1").queued_at != before


def test_a_stop_request_for_a_waiting_job_is_not_lost(jobs: JobRepository) -> None:
    claim(jobs)
    assert jobs.request_stop("a", after_epoch=True) is True
    assert claim(jobs, expected="run1").stop_requested is True
    jobs.leave_queue("a", "run1", 1)
    jobs.start_training("a", "run1", 1, first_epoch=0)
    job = recorded(jobs)
    assert (job.stop_requested, job.stop_after_epoch) == (True, True)


def test_a_job_that_is_cancelled_in_the_queue_has_ended_and_starts_no_attempt(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs)
    waits(connection, 100)
    assert jobs.cancel("a") == ("train_yolo", "run1")
    job = recorded(jobs)
    assert (job.status, job.error, job.started_at) == (JobStatus.STOPPED, None, None)
    assert job.waited_seconds == pytest.approx(100, abs=5)
    with pytest.raises(OwnershipLost, match="Job a was cancelled while it waited"):
        jobs.leave_queue("a", "run1", 1)
    with pytest.raises(OwnershipLost, match="Job a was cancelled while it waited"):
        jobs.require_owner("a", "run1", 1)
    assert jobs.fail_run("train_yolo", "run1", "The run was marked as failed by hand") is None
    assert recorded(jobs) == job


def test_a_cancelled_job_may_be_trained_after_all(jobs: JobRepository) -> None:
    claim(jobs)
    jobs.cancel("a")
    again = claim(jobs, run_id="run2", expected="run1")
    assert (again.status, again.stop_requested) == (JobStatus.QUEUED, False)
    jobs.leave_queue("a", "run2", 1)
    assert recorded(jobs).status == JobStatus.RUNNING


def test_a_run_that_continues_after_its_job_was_cancelled_cannot_reclaim_it(jobs: JobRepository) -> None:
    """A run continues if the user may not edit runs: Airflow then refuses to end it."""
    begun = datetime.now(UTC)
    claim(jobs, run_started_at=begun)
    jobs.cancel("a")
    cancelled = recorded(jobs)
    for started_at in (begun, None):
        with pytest.raises(OwnershipLost, match="Job a was cancelled while it waited"):
            claim(jobs, expected="run1", run_started_at=started_at)
    assert recorded(jobs) == cancelled


def test_a_run_that_is_cleared_after_its_job_was_cancelled_reclaims_it(jobs: JobRepository) -> None:
    claim(jobs, run_started_at=datetime.now(UTC))
    jobs.cancel("a")
    again = claim(jobs, expected="run1", run_started_at=datetime.now(UTC) + timedelta(seconds=1))
    assert (again.status, again.stop_requested) == (JobStatus.QUEUED, False)


def test_only_a_waiting_job_with_a_run_can_be_cancelled(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("INSERT INTO training_jobs (job_id, status) VALUES ('of the host', 'queued')")
    connection.commit()
    assert jobs.cancel("of the host") is None
    started(jobs)
    assert jobs.cancel("a") is None


def test_a_stop_request_for_a_dead_waiting_run_does_not_stop_its_successor(jobs: JobRepository) -> None:
    claim(jobs)
    jobs.request_stop("a", after_epoch=True)
    claimed = claim(jobs, run_id="run2", expected="run1")
    assert (claimed.stop_requested, claimed.stop_after_epoch) == (False, False)


def test_a_refusal_does_not_change_a_job_that_a_run_owns(jobs: JobRepository) -> None:
    claim(jobs)
    assert jobs.refuse("a", "epochs=0 is refused") is False


def test_rows_that_were_running_while_they_waited_are_queued_after_the_upgrade(database_url: str) -> None:
    engine = host_applications.engine(database_url)
    apply(engine, "0007")
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO training_jobs (job_id, status, dag_id, run_id, origin_run_id, attempt, epoch, "
            "started_at, updated_at) VALUES "
            "('waits', 'running', 'train_yolo', 'r1', 'r1', NULL, NULL, '2026-01-01', '2026-01-01'), "
            "('waits again', 'running', 'train_yolo', 'r3', 'r2', NULL, 4, '2026-01-01', '2026-01-02'), "
            "('trains', 'running', 'train_yolo', 'r4', 'r4', 1, NULL, '2026-01-01', '2026-01-02'), "
            "('before 0003', 'running', 'train_yolo', 'r5', NULL, NULL, 4, '2026-01-01', '2026-01-02'), "
            "('of the host', 'running', 'other', 'r6', NULL, NULL, NULL, '2026-01-01', '2026-01-02')"
        )
        connection.commit()
        before = _states(connection)
        apply(engine)
        assert _states(connection) == before | {
            "waits": ("queued", None),
            "waits again": ("queued", "2026-01-01"),
        }
        queued = connection.execute(
            "SELECT queued_at::date::text FROM training_jobs WHERE status = 'queued' ORDER BY job_id"
        ).fetchall()
        assert queued == [("2026-01-01",), ("2026-01-02",)]
        connection.commit()
        apply(engine, "0007", confirm_data_loss=True)
        assert _states(connection) == before


def _states(connection: psycopg.Connection[Any]) -> dict[str, tuple[str, str | None]]:
    rows = connection.execute("SELECT job_id, status, started_at::date::text FROM training_jobs").fetchall()
    connection.commit()
    return {job_id: (status, started_at) for job_id, status, started_at in rows}

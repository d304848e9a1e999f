"""GPU hours that attempts have used, by user and week: on a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.attempt.job_record import JobRecord
from include.errors import OwnershipLost
from include.jobs.repository import JobRepository
from include.jobs.usage import WEEK, UsageRepository, start_of_week
from include.training.contract import TrainingProgress
from tests.support.jobs import claim, epoch_report, record_checkpoints
from tests.support.quotas import record_use

MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)
LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
def usage(connection: psycopg.Connection[Any]) -> UsageRepository:
    return UsageRepository(connection)


def take_gpu(jobs: JobRepository, attempt: int = 1, run_id: str = "run1") -> None:
    jobs.leave_queue("a", run_id, attempt)
    jobs.start_training("a", run_id, attempt, first_epoch=0)


def let_pass(connection: psycopg.Connection[Any], hours: float) -> None:
    """Move all recorded times into the past by this many hours."""
    connection.execute(
        "UPDATE gpu_usage SET started_at = started_at - %(time)s, seen_at = seen_at - %(time)s",
        {"time": HOUR * hours},
    )
    connection.commit()


SIGNS = {
    "batch": lambda jobs: jobs.record_progress("a", "run1", 1, TrainingProgress(0, 1, 9, 1.0)),
    "epoch": lambda jobs: jobs.record_epoch("a", "run1", 1, epoch_report()),
    "upload": lambda jobs: jobs.record_durable("a", "run1", 1, 0),
}


@pytest.mark.parametrize("sign", SIGNS)
def test_an_attempt_counts_from_its_gpu_to_its_last_sign_of_life(
    jobs: JobRepository, connection: psycopg.Connection[Any], usage: UsageRepository, sign: str
) -> None:
    claim(jobs)
    assert usage.sum_gpu_hours("ada", LONG_AGO) == 0
    take_gpu(jobs)
    let_pass(connection, 3)
    SIGNS[sign](jobs)
    let_pass(connection, 5)  # killed: no further sign of life
    assert usage.sum_gpu_hours("ada", LONG_AGO) == pytest.approx(3, abs=0.01)
    assert usage.sum_gpu_hours("eve", LONG_AGO) == 0


def test_the_time_between_two_attempts_is_not_counted(
    jobs: JobRepository, connection: psycopg.Connection[Any], usage: UsageRepository
) -> None:
    claim(jobs)
    take_gpu(jobs)
    let_pass(connection, 1)
    jobs.record_epoch("a", "run1", 1, epoch_report())
    let_pass(connection, 7)
    take_gpu(jobs, attempt=2)
    let_pass(connection, 2)
    jobs.record_epoch("a", "run1", 2, epoch_report())
    assert usage.sum_gpu_hours("ada", LONG_AGO) == pytest.approx(3, abs=0.01)


def test_every_gpu_that_a_job_names_is_counted(
    jobs: JobRepository, connection: psycopg.Connection[Any], usage: UsageRepository
) -> None:
    claim(jobs, spec={"device": "0,1,3"})
    take_gpu(jobs)
    let_pass(connection, 2)
    jobs.record_epoch("a", "run1", 1, epoch_report())
    assert usage.sum_gpu_hours("ada", LONG_AGO) == pytest.approx(6, abs=0.01)


def test_gpu_use_of_an_overtaken_attempt_no_longer_grows(
    jobs: JobRepository, connection: psycopg.Connection[Any], usage: UsageRepository
) -> None:
    claim(jobs)
    take_gpu(jobs)
    take_gpu(jobs, attempt=2)
    let_pass(connection, 4)
    with pytest.raises(OwnershipLost):
        jobs.record_epoch("a", "run1", 1, epoch_report())
    jobs.extend_gpu_use("a", "run1", 1)
    assert usage.sum_gpu_hours("ada", LONG_AGO) == pytest.approx(0, abs=0.01)


def test_gpu_use_counts_for_the_new_owner_from_the_takeover_on(
    jobs: JobRepository, connection: psycopg.Connection[Any], usage: UsageRepository
) -> None:
    claim(jobs)
    take_gpu(jobs)
    let_pass(connection, 1)
    jobs.record_epoch("a", "run1", 1, epoch_report())
    claim(jobs, run_id="run2", expected="run1", triggered_by="eve")
    take_gpu(jobs, run_id="run2")
    let_pass(connection, 2)
    jobs.record_epoch("a", "run2", 1, epoch_report())
    assert usage.sum_gpu_hours("ada", LONG_AGO) == pytest.approx(1, abs=0.01)
    assert usage.sum_gpu_hours("eve", LONG_AGO) == pytest.approx(2, abs=0.01)


def test_gpu_use_is_kept_when_the_job_is_deleted(
    jobs: JobRepository, connection: psycopg.Connection[Any], usage: UsageRepository
) -> None:
    record_use(connection, "a", MONDAY, 2)
    assert usage.list_of_user("ada", MONDAY, 9)[0].status is None
    assert usage.sum_gpu_hours("ada", MONDAY) == 2


def test_gpu_use_counts_to_the_end_of_an_attempt_even_if_it_fails(
    jobs: JobRepository, connection: psycopg.Connection[Any], usage: UsageRepository, migrated_url: str
) -> None:
    claim(jobs)
    take_gpu(jobs)
    record = JobRecord("a", "run1", 1, lambda: psycopg.connect(migrated_url))
    with record.counting_gpu_use():
        let_pass(connection, 2)  # the last upload, for example
    assert usage.sum_gpu_hours("ada", LONG_AGO) == pytest.approx(2, abs=0.01)
    let_pass(connection, 1)
    with pytest.raises(RuntimeError, match="the training failed"), record.counting_gpu_use():
        raise RuntimeError("the training failed")
    assert usage.sum_gpu_hours("ada", LONG_AGO) == pytest.approx(3, abs=0.01)


def test_a_database_outage_at_the_end_of_an_attempt_does_not_hide_an_error() -> None:
    record = JobRecord("a", "run1", 1, lambda: psycopg.connect("host=127.0.0.1 port=1 connect_timeout=2"))
    with pytest.raises(RuntimeError, match="the training failed"), record.counting_gpu_use():
        raise RuntimeError("the training failed")


def test_a_week_begins_on_monday_in_utc() -> None:
    assert start_of_week(MONDAY) == MONDAY
    assert start_of_week(MONDAY - timedelta(seconds=1)) == MONDAY - WEEK
    assert start_of_week(datetime.fromisoformat("2026-11-23T01:30:00+02:00")) == MONDAY - WEEK


@pytest.mark.parametrize("time_zone", ["UTC", "America/New_York", "Pacific/Auckland"])
def test_gpu_use_across_midnight_on_sunday_counts_in_both_weeks(
    connection: psycopg.Connection[Any], usage: UsageRepository, time_zone: str
) -> None:
    connection.execute("SELECT set_config('TimeZone', %s, false)", [time_zone])
    connection.commit()
    record_use(connection, "a", MONDAY - 2 * HOUR, 5, gpus=2)
    hours = 1 + 24 * 7 + 3  # the hour before the week, the week, and three hours after it
    record_use(connection, "b", MONDAY - WEEK - 1 * HOUR, hours)
    record_use(connection, "c", MONDAY + 1 * HOUR, 4, user="eve")
    record_use(connection, "d", MONDAY - 3 * WEEK, 9, user=None)
    weeks = [MONDAY, MONDAY - WEEK, MONDAY - 2 * WEEK]
    found = {each.user: each.gpu_hours for each in usage.list_by_user(weeks)}
    assert found == {"ada": [6 + 3, 4 + 168, 1], "eve": [4, 0, 0]}
    assert [(job.job_id, job.gpu_hours) for job in usage.list_of_user("ada", MONDAY, 9)] == [
        ("a", 6),
        ("b", 3),
    ]
    assert [job.job_id for job in usage.list_of_user("ada", MONDAY, 1)] == ["a"]
    assert usage.sum_gpu_hours("ada", MONDAY) == 9


def test_jobs_without_a_user_are_also_listed(
    connection: psycopg.Connection[Any], usage: UsageRepository
) -> None:
    record_use(connection, "a", MONDAY, 1, user=None)
    record_use(connection, "a", MONDAY + 2 * HOUR, 2, user=None)
    (unknown,) = usage.list_by_user([MONDAY])
    assert (unknown.user, unknown.gpu_hours) == (None, [3])
    (job,) = usage.list_of_user(None, MONDAY, 9)
    assert (job.job_id, job.gpu_hours, job.attempts) == ("a", 3, 2)


def test_running_queued_and_held_gpus_of_a_user_are_counted_separately(
    jobs: JobRepository, connection: psycopg.Connection[Any], usage: UsageRepository
) -> None:
    claim(jobs, "a", "run1", spec={"device": "0,1"}, gpu_limit=3)
    jobs.leave_queue("a", "run1", 1)
    claim(jobs, "b", "run2", spec={"device": "cpu"}, gpu_limit=3)
    claim(jobs, "c", "run3", spec={}, gpu_limit=3)
    claim(jobs, "d", "run4", triggered_by="eve")
    record_checkpoints(connection, "run4", job_id="d")
    (ada,) = usage.list_by_user([start_of_week(datetime.now(UTC))])
    assert (ada.user, ada.running, ada.queued, ada.held) == ("ada", 2, 1, 1)

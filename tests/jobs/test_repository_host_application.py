"""Jobs in a host application's adopted table: its rows are trained, and its constraints are respected."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from include.jobs.job import StopRequest
from include.jobs.repository import (
    JobNotCreatable,
    JobRepository,
    JobTaken,
)
from tests.support import host_applications
from tests.support.host_applications import HOST_APPLICATIONS, Database
from tests.support.jobs import claim, epoch_report, record_checkpoints, recorded


@pytest.fixture
def host_connection(empty: Database) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection to an adopted table in which only the host application can create rows."""
    with psycopg.connect(empty.owner_url) as theirs:
        host_applications.install(theirs, HOST_APPLICATIONS["integer"])
    with psycopg.connect(empty.migrate()) as connection:
        yield connection


def test_a_refusal_is_recorded_in_a_waiting_row(host_connection: psycopg.Connection[Any]) -> None:
    jobs = JobRepository(host_connection)
    jobs.request_stop("7")
    assert jobs.refuse("7", "epochs=0 is refused") is True
    row = recorded(jobs, "7")
    assert (row.status, row.error, row.run_id) == ("failed", "epochs=0 is refused", None)
    assert row.stop_requested is False
    assert jobs.refuse("7", "again") is False


def test_a_host_applications_row_is_trained_and_recorded(host_connection: psycopg.Connection[Any]) -> None:
    jobs = JobRepository(host_connection)
    waiting = jobs.get("7")
    assert waiting is not None
    assert (waiting.status, waiting.run_id, waiting.stop_requested) == ("queued", None, False)
    claimed = claim(jobs, "7")
    assert (claimed.status, claimed.run_id, claimed.origin_run_id) == ("queued", "run1", "run1")
    jobs.leave_queue("7", "run1", 1)
    assert recorded(jobs, "7").started_at is not None
    jobs.start_training("7", "run1", 1, first_epoch=0)
    assert jobs.record_epoch("7", "run1", 1, epoch_report()) is StopRequest.NONE
    assert len(jobs.list_epochs("7")) == 1


def test_a_waiting_row_with_a_stop_request_stops_once_it_is_trained(
    host_connection: psycopg.Connection[Any],
) -> None:
    jobs = JobRepository(host_connection)
    assert jobs.request_stop("7") is True
    assert claim(jobs, "7").stop_requested is True
    jobs.leave_queue("7", "run1", 1)
    jobs.start_training("7", "run1", 1, first_epoch=0)
    assert jobs.record_epoch("7", "run1", 1, epoch_report()) is StopRequest.NOW


@pytest.mark.parametrize("status", ["state", "varchar(20)"])
@pytest.mark.parametrize("end", ["completed", "stopped"])
def test_a_host_applications_own_column_types_accept_all_writes_of_an_attempt(
    empty: Database, status: str, end: str
) -> None:
    with psycopg.connect(empty.owner_url) as theirs:
        theirs.execute("CREATE TYPE state AS ENUM ('queued', 'running', 'completed', 'failed', 'stopped')")
        theirs.execute(
            f"CREATE TABLE training_jobs (id int PRIMARY KEY, status {status}, metrics json, epoch bigint, "
            "attempt bigint, run_id varchar(250), origin_run_id varchar(300), error text)"
        )
        theirs.execute("INSERT INTO training_jobs VALUES (7)")
    with psycopg.connect(empty.migrate()) as connection:
        jobs = JobRepository(connection)
        claim(jobs, "7")
        jobs.leave_queue("7", "run1", 1)
        jobs.start_training("7", "run1", 1, first_epoch=0)
        for epoch in range(2):
            jobs.record_epoch("7", "run1", 1, epoch_report(epoch, loss=epoch / 2))
        jobs.record_durable("7", "run1", 1, 0)
        jobs.record_inexact("7", "run1", 1, "other device")
        jobs.start_training("7", "run1", 2, first_epoch=1)
        again = claim(jobs, "7", run_id="run2", expected="run1")
        assert (again.epoch, again.metrics, again.durable_epoch) == (0, {"loss": 0.0}, 0)
        assert (again.origin_run_id, again.inexact_reason) == ("run1", "other device")
        assert jobs.request_stop("7") is True
        assert record_checkpoints(connection, "run2", end, "7") == 1
        ended = recorded(jobs, "7")
        assert (ended.status, ended.durable_epoch, ended.stop_requested) == (end, 2, False)


def test_a_host_applications_row_that_another_run_has_taken_is_not_claimed(
    host_connection: psycopg.Connection[Any],
) -> None:
    jobs = JobRepository(host_connection)
    owned = claim(jobs, "7")
    with pytest.raises(JobTaken, match="Job 7 was taken by another run while run run2"):
        claim(jobs, "7", run_id="run2")
    assert jobs.get("7") == owned


def test_a_job_that_only_the_host_application_can_create_is_refused(
    host_connection: psycopg.Connection[Any],
) -> None:
    with pytest.raises(
        JobNotCreatable, match=r"column name is mandatory\. Pass the job_id of an existing row"
    ):
        claim(JobRepository(host_connection), "digits-1")


def test_a_number_that_could_become_a_key_of_the_host_application_is_refused(
    host_connection: psycopg.Connection[Any], empty: Database
) -> None:
    with psycopg.connect(empty.owner_url) as theirs:
        theirs.execute("ALTER TABLE training_jobs ALTER COLUMN name SET DEFAULT ''")
    jobs = JobRepository(host_connection)
    with pytest.raises(JobNotCreatable, match="so it could create row 999 itself later"):
        claim(jobs, "999")
    assert claim(jobs, "digits-999").status == "queued"


def test_a_job_id_that_is_too_long_for_the_host_application_is_refused(empty: Database) -> None:
    with psycopg.connect(empty.owner_url) as theirs:
        theirs.execute("CREATE TABLE training_jobs (job_id varchar(8) PRIMARY KEY)")
    with psycopg.connect(empty.migrate()) as connection:
        jobs = JobRepository(connection)
        with pytest.raises(JobNotCreatable, match=r"value too long for type character varying\(8\)"):
            claim(jobs, "digits-2026")
        assert claim(jobs, "digits-1").run_id == "run1"


def test_rows_that_only_the_host_application_has_written_can_be_read(empty: Database) -> None:
    with psycopg.connect(empty.owner_url) as theirs:
        theirs.execute(
            "CREATE TABLE training_jobs (id int PRIMARY KEY, status text, metrics json, created_at timestamp)"
        )
        theirs.execute("INSERT INTO training_jobs VALUES (1, 'ARCHIVED', '[1, 2]', now())")
        theirs.execute("INSERT INTO training_jobs VALUES (2)")
    with psycopg.connect(empty.migrate()) as connection:
        archived, untouched = (JobRepository(connection).get(job_id) for job_id in ("1", "2"))
    assert archived is not None
    assert (archived.status, archived.metrics) == ("ARCHIVED", None)
    assert archived.created_at is not None
    assert archived.created_at.tzinfo is not None
    assert untouched is not None
    assert (untouched.status, untouched.created_at) == (None, None)

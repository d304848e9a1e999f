"""If the database is busy, unavailable or hanging, training continues, and epochs are recorded later."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any

import psutil
import psycopg
import pytest

from include import time_limited_connection as database
from include.attempt import epoch_recorder
from include.attempt.epoch_recorder import EpochRecorder
from include.attempt.job_record import JobRecord
from include.deployment.connections import prepare_training_db
from include.errors import OwnershipLost
from include.jobs.repository import JobRepository
from include.stack.postgres import TRAINING_APPLICATION
from include.time_limited_connection import TimeLimitedConnection
from tests.support.cutting_proxy import CuttingProxy
from tests.support.jobs import epoch_report, started
from tests.support.waiting import until


@pytest.fixture
def row(migrated_url: str) -> JobRecord:
    """Return the record with which the first attempt of job a writes its row, which `started` creates."""
    return JobRecord("a", "run1", 1, lambda: closing(psycopg.connect(migrated_url)))


def epochs_of(jobs: JobRepository) -> list[int]:
    return [each.epoch for each in jobs.list_epochs("a")]


def test_a_locked_row_does_not_delay_training(
    connection: psycopg.Connection[Any],
    jobs: JobRepository,
    row: JobRecord,
    migrated_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(epoch_recorder, "_ANSWER_SECONDS", 0.2)
    started(jobs)
    with EpochRecorder(row) as recorder:
        with psycopg.connect(migrated_url) as other:
            other.execute("UPDATE training_jobs SET stop_requested = TRUE")
            for epoch in range(3):
                assert recorder.record(epoch_report(epoch)) is False
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE %s = ANY(pg_blocking_pids(pid))"
            backend = other.info.backend_pid
            until(lambda: connection.execute(waiting, [backend]).fetchone() == (1,), "the write that waits")
            connection.rollback()
        assert recorder.flush() is True
    assert epochs_of(jobs) == [0, 1, 2]


def test_epochs_are_recorded_as_soon_as_the_database_is_back(
    jobs: JobRepository, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch_recorder, "_RETRY_SECONDS", 0.2)
    started(jobs)
    server = migrated_url.partition("@")[2].partition("/")[0]
    with CuttingProxy(f"http://{server}", received=0) as proxy:
        through = migrated_url.replace(server, proxy.endpoint_url.removeprefix("http://"))
        row = JobRecord("a", "run1", 1, lambda: closing(psycopg.connect(through)))
        with EpochRecorder(row) as recorder:
            assert recorder.record(epoch_report(0)) is False
            assert recorder.record(epoch_report(1)) is False
            with pytest.raises(psycopg.OperationalError):
                recorder.flush()
            assert epochs_of(jobs) == []
            proxy.stop_cutting()
            until(lambda: epochs_of(jobs) == [0, 1], "both epochs", pause=0.1)


def test_training_continues_while_its_role_lacks_a_right_that_migrate_schema_has_yet_to_grant(
    jobs: JobRepository, owner: psycopg.Connection[Any], row: JobRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epoch_recorder, "_RETRY_SECONDS", 0.2)
    started(jobs)
    right = "UPDATE ON gpu_usage"
    owner.execute(f"REVOKE {right} FROM {TRAINING_APPLICATION}")
    try:
        with EpochRecorder(row) as recorder:
            assert recorder.record(epoch_report(0)) is False
            assert recorder.record(epoch_report(1)) is False
            assert epochs_of(jobs) == []
            owner.execute(f"GRANT {right} TO {TRAINING_APPLICATION}")
            until(lambda: epochs_of(jobs) == [0, 1], "both epochs", pause=0.1)
    finally:
        owner.execute(f"GRANT {right} TO {TRAINING_APPLICATION}")


def test_an_attempt_that_has_lost_its_job_ends_when_it_cannot_record_an_epoch(
    jobs: JobRepository, row: JobRecord
) -> None:
    started(jobs, attempt=2)
    with EpochRecorder(row) as recorder, pytest.raises(OwnershipLost, match="a newer attempt"):
        recorder.record(epoch_report(0))


def test_a_statement_to_a_hanging_server_times_out_and_closes_the_connection(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "RESPONSE_SECONDS", 0.5)
    connection = TimeLimitedConnection.connect(database_url)
    backend = psutil.Process(connection.info.backend_pid)
    backend.suspend()
    try:
        with (
            pytest.raises(psycopg.OperationalError, match=r"has not responded for 0\.5 s"),
            connection.transaction(),
        ):
            connection.execute("SELECT 1")
    finally:
        backend.resume()
    assert connection.closed


def test_a_long_transaction_may_exceed_both_timeouts_but_the_next_statement_may_not(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TimeLimitedConnection.connect(database_url, options="-c statement_timeout=500ms") as connection:
        with monkeypatch.context() as patch:
            patch.setattr(database, "RESPONSE_SECONDS", 1.0)
            with database.long_transaction(connection, 20):
                connection.execute("SELECT pg_sleep(2)")
        # The client's default timeout is longer than the server's, so the server cancels the statement.
        with connection.transaction(), pytest.raises(psycopg.errors.QueryCanceled):
            connection.execute("SELECT pg_sleep(60)")
        connection.execute("SET statement_timeout = 0")
        monkeypatch.setattr(database, "RESPONSE_SECONDS", 1.0)
        with pytest.raises(psycopg.OperationalError, match="has not responded for 1 s"):
            connection.execute("SELECT pg_sleep(60)")


def test_a_long_transaction_has_its_own_timeout(database_url: str) -> None:
    with (
        TimeLimitedConnection.connect(database_url) as connection,
        pytest.raises(psycopg.errors.QueryCanceled),
        database.long_transaction(connection, 1),
    ):
        connection.execute("SELECT pg_sleep(30)")


def test_every_connection_has_timeouts_and_keeps_the_settings_of_the_deployment(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = psycopg.conninfo.conninfo_to_dict(database_url)
    described = {
        "conn_type": "postgres",
        "host": place["host"],
        "port": int(str(place["port"])),
        "login": place["user"],
        "password": place["password"],
        "schema": place["dbname"],
        "extra": {
            "application_name": "ours",
            "connect_timeout": 3,
            "options": "-c search_path=elsewhere -c lock_timeout=7s",
            "sqlalchemy_scheme": "postgresql",
        },
    }
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", json.dumps(described))
    open_database = prepare_training_db()
    monkeypatch.delenv("AIRFLOW_CONN_TRAINING_DB")
    with open_database() as connection:
        assert isinstance(connection, TimeLimitedConnection)
        options = connection.info.get_parameters()
        assert (options["application_name"], options["connect_timeout"]) == ("ours", "3")
        assert options["tcp_user_timeout"] == "10000"
        assert connection.execute("SHOW statement_timeout").fetchone() == ("10s",)
        assert connection.execute("SHOW lock_timeout").fetchone() == ("7s",)
        assert connection.execute("SHOW search_path").fetchone() == ("elsewhere",)
        # PostgreSQL reads these from the socket: it notices a client whose machine has lost power.
        assert connection.execute("SHOW tcp_user_timeout").fetchone() == ("30000",)
        keepalives = [
            connection.execute(f"SHOW tcp_keepalives_{name}").fetchone()
            for name in ("idle", "interval", "count")
        ]
        assert keepalives == [("15",), ("5",), ("3",)]
    assert connection.closed

"""Faults of PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.faults.fault import Fault
from tests.support.faults.job import Job
from tests.support.faults.moments import CHECKING

_NAME = "faults"


@contextmanager
def _kill_connections(job: Job) -> Iterator[None]:
    """Terminate every connection of the role, again and again until the end of the block."""
    healed = threading.Event()

    def kill() -> None:
        with job.scene.connect() as connection:
            while not healed.wait(0.02):
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", [_NAME]
                )

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        yield
    finally:
        healed.set()
        killer.join()


@contextmanager
def _make_read_only(job: Job) -> Iterator[None]:
    with job.scene.connect() as connection:
        connection.execute(f"ALTER ROLE {_NAME} SET default_transaction_read_only = on")
        try:
            yield
        finally:
            connection.execute(f"ALTER ROLE {_NAME} RESET default_transaction_read_only")


@contextmanager
def _lock_row(job: Job) -> Iterator[None]:
    job.resume()  # a process stopped within a transaction would keep its locks on the table
    with job.scene.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE training_epochs IN ACCESS EXCLUSIVE MODE")
        connection.execute("SELECT 1 FROM training_jobs WHERE job_id = %s FOR UPDATE", [job.job_id])
        yield


@contextmanager
def _exhaust_connections(job: Job) -> Iterator[None]:
    with job.scene.connect() as connection:
        connection.execute(f"ALTER ROLE {_NAME} CONNECTION LIMIT 0")
        try:
            yield
        finally:
            connection.execute(f"ALTER ROLE {_NAME} CONNECTION LIMIT -1")


@contextmanager
def _set_ahead(job: Job) -> Iterator[None]:
    """Simulate a migration with newer code."""
    with job.scene.connect() as connection:
        (version,) = connection.execute("SELECT version_num FROM training_schema_version").fetchone() or ("",)
        connection.execute("UPDATE training_schema_version SET version_num = '9999'")
        try:
            yield
        finally:
            connection.execute("UPDATE training_schema_version SET version_num = %s", [version])


@contextmanager
def _set_behind(job: Job) -> Iterator[None]:
    """Simulate code that is newer than the tables: a column is missing."""
    job.resume()  # a process stopped within a transaction would keep its locks on the table
    with job.scene.connect() as connection:
        (version,) = connection.execute("SELECT version_num FROM training_schema_version").fetchone() or ("",)
        connection.execute("UPDATE training_schema_version SET version_num = '0006'")
        connection.execute("ALTER TABLE training_jobs RENAME COLUMN durable_batch TO not_yet")
        try:
            yield
        finally:
            connection.execute("ALTER TABLE training_jobs RENAME COLUMN not_yet TO durable_batch")
            connection.execute("UPDATE training_schema_version SET version_num = %s", [version])


_WHEN_CHECKED = (CHECKING.name,)

DATABASE_FAULTS = (
    Fault("PostgreSQL connections killed", "PostgreSQL", _kill_connections),
    Fault("PostgreSQL frozen", "PostgreSQL", lambda job: job.scene.database.freeze()),
    Fault("PostgreSQL read-only", "PostgreSQL", _make_read_only),
    Fault("PostgreSQL row locked", "PostgreSQL", _lock_row, seconds=7.0),
    Fault("PostgreSQL connections exhausted", "PostgreSQL", _exhaust_connections),
    Fault("schema behind", "PostgreSQL", _set_behind),
    Fault("schema ahead, when it is checked", "PostgreSQL", _set_ahead, ends=(None,), moments=_WHEN_CHECKED),
    Fault(
        "schema behind, when it is checked", "PostgreSQL", _set_behind, ends=(None,), moments=_WHEN_CHECKED
    ),
)

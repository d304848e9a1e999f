"""What PostgreSQL may do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.fault import Fault
from tests.faults.job import Job
from tests.faults.moments import CHECKING

_NAME = "faults"


@contextmanager
def _killed(job: Job) -> Iterator[None]:
    """End every connection of the role, as often as it comes back."""
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
def _read_only(job: Job) -> Iterator[None]:
    with job.scene.connect() as connection:
        connection.execute(f"ALTER ROLE {_NAME} SET default_transaction_read_only = on")
        try:
            yield
        finally:
            connection.execute(f"ALTER ROLE {_NAME} RESET default_transaction_read_only")


@contextmanager
def _locked(job: Job) -> Iterator[None]:
    job.go_on()  # what was stopped within a transaction would keep its locks on the table
    with job.scene.connect() as connection, connection.transaction():
        connection.execute("LOCK TABLE training_epochs IN ACCESS EXCLUSIVE MODE")
        connection.execute("SELECT 1 FROM training_jobs WHERE job_id = %s FOR UPDATE", [job.job_id])
        yield


@contextmanager
def _exhausted(job: Job) -> Iterator[None]:
    with job.scene.connect() as connection:
        connection.execute(f"ALTER ROLE {_NAME} CONNECTION LIMIT 0")
        try:
            yield
        finally:
            connection.execute(f"ALTER ROLE {_NAME} CONNECTION LIMIT -1")


@contextmanager
def _ahead(job: Job) -> Iterator[None]:
    """Somebody migrated with newer code."""
    with job.scene.connect() as connection:
        (version,) = connection.execute("SELECT version_num FROM training_schema_version").fetchone() or ("",)
        connection.execute("UPDATE training_schema_version SET version_num = '9999'")
        try:
            yield
        finally:
            connection.execute("UPDATE training_schema_version SET version_num = %s", [version])


@contextmanager
def _behind(job: Job) -> Iterator[None]:
    """The code is newer than the tables: a column is not there yet."""
    job.go_on()  # what was stopped within a transaction would keep its locks on the table
    with job.scene.connect() as connection:
        (version,) = connection.execute("SELECT version_num FROM training_schema_version").fetchone() or ("",)
        connection.execute("UPDATE training_schema_version SET version_num = '0006'")
        connection.execute("ALTER TABLE training_jobs RENAME COLUMN durable_batch TO not_yet")
        try:
            yield
        finally:
            connection.execute("ALTER TABLE training_jobs RENAME COLUMN not_yet TO durable_batch")
            connection.execute("UPDATE training_schema_version SET version_num = %s", [version])


_REFUSED = (CHECKING.name,)

DATABASE_FAULTS = (
    Fault("PostgreSQL connections killed", "PostgreSQL", _killed),
    Fault("PostgreSQL frozen", "PostgreSQL", lambda job: job.scene.database.frozen()),
    Fault("PostgreSQL read-only", "PostgreSQL", _read_only),
    Fault("PostgreSQL row locked", "PostgreSQL", _locked, seconds=7.0),
    Fault("PostgreSQL connections exhausted", "PostgreSQL", _exhausted),
    Fault("schema behind", "PostgreSQL", _behind),
    Fault("schema ahead, when it is checked", "PostgreSQL", _ahead, ends=(None,), moments=_REFUSED),
    Fault("schema behind, when it is checked", "PostgreSQL", _behind, ends=(None,), moments=_REFUSED),
)

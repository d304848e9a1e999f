"""The database session of a migration, which runs alone and never blocks other sessions for long."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg import errors
from psycopg.rows import tuple_row
from sqlalchemy import create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from include.schema.errors import MigrationRefused, SchemaBusy

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy import Connection, Engine

_LOCK = "hashtextextended('training_schema_version', 0)"
_REFUSALS = (errors.ProgrammingError, errors.IntegrityError, errors.DataError, errors.NotSupportedError)


@dataclass(frozen=True)
class LockTimeouts:
    """How long to wait for locks, and for the client that holds them, in PostgreSQL's notation."""

    migration: str = "2min"
    """For the lock that another migration holds."""
    table: str = "10s"
    """For a table in use. A session that waits for a table lock blocks every later query on the table, so it
    must not wait for long."""
    silence: str = "1min"
    """For the migrating client, between two statements. If its machine has lost power, PostgreSQL would
    otherwise keep its session, with locks that stop all training runs from recording, for hours."""


DEFAULT_TIMEOUTS = LockTimeouts()


def make_engine(connect: Callable[[], Any]) -> Engine:
    """Return an engine that opens psycopg connections with `connect`, such as a hook's get_conn."""

    def connect_for_sqlalchemy() -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] = connect()
        connection.row_factory = tuple_row
        return connection

    return create_engine(
        "postgresql+psycopg://",
        creator=connect_for_sqlalchemy,
        poolclass=NullPool,
        # Otherwise, psycopg reads a percent sign in a host application's names as a placeholder.
        execution_options={"no_parameters": True},
    )


@contextmanager
def open_exclusive_session(engine: Engine, timeouts: LockTimeouts) -> Iterator[Connection]:
    """Open a session that holds this database's lock for migrations.

    Raises SchemaBusy if another migration holds the lock for longer than `timeouts` allows.
    """
    with engine.connect() as connection:
        # The lock is held until the session ends, so the session must end with this block.
        connection.detach()
        # If the client is killed, its session must not hold the lock until the current statement ends.
        connection.exec_driver_sql("SET client_connection_check_interval = '1s'")
        for session in ("idle_session_timeout", "idle_in_transaction_session_timeout"):
            connection.exec_driver_sql(f"SET {session} = '{timeouts.silence}'")
        # A host application may limit these for its own sessions, but indexes of a large table take minutes.
        connection.exec_driver_sql(
            "SELECT set_config(name, '0', FALSE) FROM pg_settings "
            "WHERE name IN ('statement_timeout', 'transaction_timeout')"
        )
        connection.exec_driver_sql(f"SET lock_timeout = '{timeouts.migration}'")
        with translate_database_errors(
            f"Another run has been migrating this database for more than {timeouts.migration}. "
            "Check its log, then try again."
        ):
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
        connection.exec_driver_sql(f"SET lock_timeout = '{timeouts.table}'")
        # Alembic does not commit a transaction that is already open.
        connection.commit()
        yield connection


@contextmanager
def translate_database_errors(busy: str) -> Iterator[None]:
    """Raise SchemaBusy(busy) if a lock times out, and MigrationRefused if PostgreSQL rejects a statement."""
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, errors.LockNotAvailable):
            raise SchemaBusy(busy) from error
        if isinstance(error.orig, _REFUSALS):
            raise MigrationRefused([_describe(error.orig, error.statement)]) from error
        raise


def _describe(error: psycopg.Error, statement: str | None) -> str:
    parts = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
    message = ". ".join(part.rstrip(".") for part in parts if part)
    remedy = (
        "Give connection training_db_owner (or training_db, if that does not exist) a role that owns the "
        "host application's table and may create objects in its schema. "
    )
    is_missing_right = isinstance(error, errors.InsufficientPrivilege)
    return f"PostgreSQL reported: {message}. {remedy if is_missing_right else ''}Statement: {statement}"

"""The one database session in which a migration runs: alone, and never in anybody's way for long."""

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
class Patience:
    """How long to wait for another migration, and for a table in use, as PostgreSQL writes durations.

    Whoever waits for a table makes every later query on it wait as well: the platform must not stand still.
    """

    migration: str = "2min"
    table: str = "10s"


DEFAULT_PATIENCE = Patience()


def engine_over(connect: Callable[[], Any]) -> Engine:
    """Return an engine over the caller's own way to a psycopg connection, such as a hook's get_conn."""

    def connect_for_sqlalchemy() -> psycopg.Connection[Any]:
        connection: psycopg.Connection[Any] = connect()
        connection.row_factory = tuple_row
        return connection

    return create_engine("postgresql+psycopg://", creator=connect_for_sqlalchemy, poolclass=NullPool)


@contextmanager
def exclusive(engine: Engine, patience: Patience) -> Iterator[Connection]:
    """Open a session that holds the lock of all migrations of this database.

    It waits no longer than `patience`.

    Raises SchemaBusy if another migration holds the lock for longer.
    """
    with engine.connect() as connection:
        # The lock ends with the session, which therefore must end here.
        connection.detach()
        # A session whose client was killed must not hold the lock until its statement ends.
        connection.exec_driver_sql("SET client_connection_check_interval = '1s'")
        connection.exec_driver_sql(f"SET lock_timeout = '{patience.migration}'")
        with in_sentences(
            f"Another run has been migrating this database for more than {patience.migration}. "
            "Look at its log, then try again."
        ):
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_LOCK})")
        connection.exec_driver_sql(f"SET lock_timeout = '{patience.table}'")
        # Alembic leaves a transaction that is open already to whoever opened it, and would commit nothing.
        connection.commit()
        yield connection


@contextmanager
def in_sentences(busy: str) -> Iterator[None]:
    """Raise SchemaBusy, saying `busy`, for a lock not had; MigrationRefused for what PostgreSQL refuses."""
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, errors.LockNotAvailable):
            raise SchemaBusy(busy) from error
        if isinstance(error.orig, _REFUSALS):
            raise MigrationRefused([_sentence(error.orig, error.statement)]) from error
        raise


def _sentence(error: psycopg.Error, statement: str | None) -> str:
    parts = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
    said = ". ".join(part.rstrip(".") for part in parts if part)
    remedy = (
        "Give connection training_db a role that owns the platform's table and may create in its schema. "
    )
    missing_right = isinstance(error, errors.InsufficientPrivilege)
    return f"PostgreSQL says: {said}. {remedy if missing_right else ''}It was asked to: {statement}"

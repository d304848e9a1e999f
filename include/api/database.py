"""Connections to the training database, which are lent to requests from a pool in each process.

Opening a connection takes longer than most requests: PostgreSQL starts a process for each connection, and
hashes the password thousands of times. SQLAlchemy's pool pings a connection before it is reused, because the
server may have been restarted. The pool is used without an engine and lends psycopg's own connections.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, cast

import psycopg
from fastapi import Depends
from psycopg import Connection, DataError
from psycopg.pq import TransactionStatus
from psycopg.types.datetime import TimestamptzLoader
from psycopg.types.json import set_json_loads
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.pool import QueuePool

from include.deployment.connections import connect_training_db

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from psycopg.abc import Buffer

MAX_IDLE = 8
MAX_AGE_SECONDS = 60
"""Age at which a connection is replaced, so that a password change in Airflow takes effect."""

MAX_JSON_LEVELS = 100
"""Pydantic writes at most 255 nested levels, and a response adds a few."""


def create_pool(connect: Callable[[], Any]) -> QueuePool:
    """Return an empty pool, which opens any number of psycopg connections with `connect`."""
    return QueuePool(
        connect,
        pool_size=MAX_IDLE,
        max_overflow=-1,
        recycle=MAX_AGE_SECONDS,
        pre_ping=True,
        use_lifo=True,  # surplus connections then stay idle until the server closes them
        reset_on_return=None,  # only connections outside a transaction return to the pool
        dialect=PGDialect_psycopg(dbapi=psycopg),  # type: ignore[no-untyped-call]
    )


@contextmanager
def pooled_connection(pool: QueuePool) -> Iterator[Connection[Any]]:
    """Lend a working connection from the pool for the block.

    Raises the error of the pool's `connect` if a new connection is needed but cannot be opened. After the
    block, the connection is closed if it is broken or still in a transaction.
    """
    pooled = pool.connect()
    connection = cast("Connection[Any]", pooled.driver_connection)
    try:
        yield connection
    finally:
        if connection.info.transaction_status == TransactionStatus.IDLE:
            pooled.close()
        else:
            pooled.invalidate()


def tolerate_foreign_values(connection: Connection[Any]) -> Connection[Any]:
    """Make the connection return None for values that a response cannot represent; return the connection.

    A host application may have written timestamps such as infinity, numbers such as 1e999, and JSON with
    thousands of levels. A single such row must not make the whole page fail.
    """
    connection.adapters.register_loader("timestamptz", _LenientTimestamp)
    set_json_loads(_load_json, connection)
    return connection


class _LenientTimestamp(TimestamptzLoader):
    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except DataError:
            return None  # type: ignore[return-value]  # as for NULL


def _load_json(data: str | bytes) -> Any:
    text = data if isinstance(data, str) else data.decode()
    try:
        value = json.loads(text, parse_float=_parse_float, parse_int=_parse_integer)
        if "\\u" in text:  # PostgreSQL allows half a surrogate pair in a column of type json
            json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    return None if _has_too_many_levels(value) else value


def _has_too_many_levels(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_JSON_LEVELS):
        inner = (
            each.values() if isinstance(each, dict) else each
            for each in level
            if isinstance(each, dict | list)
        )
        level = [item for each in inner for item in each]
        if not level:
            return False
    return True


def _parse_integer(number: str) -> int | None:
    """Return the integer; None if it may exceed the largest double: many JSON parsers accept no more."""
    return int(number) if len(number) <= sys.float_info.max_10_exp else None


def _parse_float(number: str) -> float | None:
    value = float(number)
    return value if math.isfinite(value) else None


def _connect() -> Connection[Any]:
    connection = tolerate_foreign_values(connect_training_db())
    connection.prepare_threshold = None  # a pooler such as PgBouncer may not support prepared statements
    return connection


pool = create_pool(_connect)
open_database = partial(pooled_connection, pool)
"""Context manager that lends a pooled connection. It blocks, so never use it on an event loop."""


def _lend_connection() -> Iterator[Connection[Any]]:
    with open_database() as connection:
        yield connection


Database = Annotated[Connection[Any], Depends(_lend_connection)]
"""Parameter of routes that run in a thread: a pooled connection, lent until the response has been sent."""

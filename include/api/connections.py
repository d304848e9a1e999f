"""A pool of connections to the training database in each process of the API server.

Opening a connection takes longer than most requests: PostgreSQL starts a process for it and checks the
password with thousands of hashes. SQLAlchemy's pool pings a connection before it is reused, because the
server may have been restarted. Connections older than a minute are replaced, so that a change to Airflow's
connection takes effect. The pool is used without an engine and lends psycopg's own connections.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.pool import QueuePool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_IDLE = 8
MAX_AGE_SECONDS = 60
"""Age at which a connection is replaced, so that a password change in Airflow takes effect."""


def create_pool(connect: Callable[[], Any]) -> QueuePool:
    """Return an empty pool, which opens any number of psycopg connections with `connect`."""
    return QueuePool(
        connect,
        pool_size=MAX_IDLE,
        max_overflow=-1,
        recycle=MAX_AGE_SECONDS,
        pre_ping=True,
        use_lifo=True,  # so that surplus connections stay idle, and the server may close them
        reset_on_return=None,  # only connections outside a transaction are returned
        dialect=PGDialect_psycopg(dbapi=psycopg),  # type: ignore[no-untyped-call]
    )


@contextmanager
def pooled_connection(pool: QueuePool) -> Iterator[psycopg.Connection[Any]]:
    """Lend a working connection from the pool for the block. Raises the errors of opening a connection.

    A connection that the block leaves broken or within a transaction is closed.
    """
    pooled = pool.connect()
    connection = cast("psycopg.Connection[Any]", pooled.driver_connection)
    try:
        yield connection
    finally:
        if connection.info.transaction_status == TransactionStatus.IDLE:
            pooled.close()
        else:
            pooled.invalidate()

"""Connections to the training database that later requests use again, in each process of the API server.

Opening one takes longer than most answers: PostgreSQL starts a process for it and checks the password by
thousands of hashes. SQLAlchemy's pool pings each before it lends it again, because the server may have been
restarted, and replaces it after a minute, so that it leads where Airflow's connection says. There is no
engine: what is lent is psycopg's own connection.
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

MOST_KEPT = 8
LONGEST_KEPT = 60
"""Seconds after it was opened: then a password that was changed in Airflow is used."""


def create_pool(connect: Callable[[], Any]) -> QueuePool:
    """Return an empty pool. `connect` opens psycopg connections for it, as many as are needed at once."""
    return QueuePool(
        connect,
        pool_size=MOST_KEPT,
        max_overflow=-1,
        recycle=LONGEST_KEPT,
        pre_ping=True,
        use_lifo=True,  # what is not needed grows old
        reset_on_return=None,  # only idle connections are given back
        dialect=PGDialect_psycopg(dbapi=psycopg),  # type: ignore[no-untyped-call]
    )


@contextmanager
def lend(pool: QueuePool) -> Iterator[psycopg.Connection[Any]]:
    """Lend a connection that works, until the block ends. Raises what opening one raises.

    One that the block leaves in the middle of a transaction, or broken, is closed.
    """
    lent = pool.connect()
    connection = cast("psycopg.Connection[Any]", lent.driver_connection)
    try:
        yield connection
    finally:
        if connection.info.transaction_status == TransactionStatus.IDLE:
            lent.close()
        else:
            lent.invalidate()

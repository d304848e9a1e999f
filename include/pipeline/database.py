"""Connections to the training database that give a server up which says nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import Connection, OperationalError
from psycopg.errors import _WaitTimeout

if TYPE_CHECKING:
    from psycopg.abc import PQGen

T = TypeVar("T")

SILENT_SECONDS = 20.0
"""How long a statement may go without any answer: longer than the server's own statement_timeout. No option
of libpq does this, for the kernel of a machine whose PostgreSQL hangs still acknowledges every packet."""


class ImpatientConnection(Connection[Any]):
    """A psycopg connection on which no statement waits forever.

    Where the server says nothing for `SILENT_SECONDS`, the connection is closed and OperationalError raised.
    """

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Do what psycopg has to do on this connection, within the limit."""
        limit = SILENT_SECONDS if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except _WaitTimeout:
            self.close()
            raise OperationalError(f"the training database has not answered for {limit:g} s") from None

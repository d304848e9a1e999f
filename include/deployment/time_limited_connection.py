"""Connections to the training database that give up on a server that does not respond."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import Connection, OperationalError
from psycopg.errors import _WaitTimeout

if TYPE_CHECKING:
    from psycopg.abc import PQGen

T = TypeVar("T")

RESPONSE_SECONDS = 20.0
"""How long a statement may take: longer than the server's own statement_timeout. libpq's options cannot
detect a PostgreSQL that hangs, because its machine's kernel still acknowledges every packet."""


class TimeLimitedConnection(Connection[Any]):
    """A psycopg connection on which no statement waits forever.

    After `RESPONSE_SECONDS` without a response it closes itself and raises OperationalError.
    """

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for the server, within the limit: psycopg does so here for each statement."""
        limit = RESPONSE_SECONDS if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except _WaitTimeout:
            self.close()
            raise OperationalError(f"the training database has not responded for {limit:g} s") from None

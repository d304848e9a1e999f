"""Connections to the training database that give up on a server that does not respond."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

from psycopg import Connection, OperationalError
from psycopg.errors import _WaitTimeout

if TYPE_CHECKING:
    from psycopg.abc import PQGen

T = TypeVar("T")

RESPONSE_SECONDS = 20.0
"""How long a statement may take: longer than the server's own statement_timeout. This limit also detects a
PostgreSQL that hangs. libpq's options do not, because the kernel of its machine still acknowledges every
packet."""

LONG_SECONDS = 1800
"""How long a statement over all rows of a large table may take."""


class TimeLimitedConnection(Connection[Any]):
    """A psycopg connection on which no statement waits forever.

    After `RESPONSE_SECONDS` without a response, the connection closes itself and raises OperationalError.
    """

    _extra_seconds = 0.0

    @contextmanager
    def extended(self, seconds: float) -> Iterator[None]:
        """Wait `seconds` longer for each response within the block."""
        before, self._extra_seconds = self._extra_seconds, seconds
        try:
            yield
        finally:
            self._extra_seconds = before

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for the server, within the limit. psycopg calls this method for each statement."""
        limit = RESPONSE_SECONDS + self._extra_seconds if timeout is None else timeout
        try:
            return super().wait(gen, interval, limit)
        except _WaitTimeout:
            self.close()
            raise OperationalError(f"the training database has not responded for {limit:g} s") from None


@contextmanager
def long_transaction(connection: Connection[Any], seconds: int = LONG_SECONDS) -> Iterator[None]:
    """Open a transaction in which each statement may take `seconds`.

    The server cancels a statement that takes longer; the client waits a little longer than the server. The
    timeout for locks does not change. Do not open this transaction within another one: the server's longer
    limit would remain in force in the outer transaction.
    """
    waiting = connection.extended(seconds) if isinstance(connection, TimeLimitedConnection) else nullcontext()
    with waiting, connection.transaction():
        connection.execute("SELECT set_config('statement_timeout', %s, true)", [f"{seconds}s"])
        yield

"""Connections to the training database that are kept for the next request, in each process of the API server.

To open one takes longer than most answers: PostgreSQL starts a process for it and checks the password by
thousands of hashes. Who keeps one must see that it still works, and that it leads where Airflow's connection
says; hence the check and the short life. psycopg_pool opens connections by itself, from an address; these are
opened by Airflow's hook.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from psycopg.pq import TransactionStatus

from include.deployment.retrying import database_errors

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from psycopg import Connection

log = logging.getLogger(__name__)

MOST_KEPT = 8
LONGEST_KEPT = 60.0
"""Seconds after it was opened: then a password that was changed in Airflow is used."""


@dataclass(frozen=True)
class _Kept:
    connection: Connection[Any]
    opened: ExitStack
    since: float


class KeptConnections:
    """Lends connections, each to one request at a time; how one is opened is the caller's."""

    def __init__(self, opening: Callable[[], AbstractContextManager[Connection[Any]]]) -> None:
        self._opening = opening
        # The last one given back is lent first: what is not needed grows old.
        self._idle: deque[_Kept] = deque()

    @contextmanager
    def lent(self) -> Iterator[Connection[Any]]:
        """Lend a connection that works, until the block ends. Raises what opening one raises."""
        kept = self._found() or self._opened()
        try:
            yield kept.connection
        finally:
            self._take_back(kept)

    def _found(self) -> _Kept | None:
        while self._idle:
            try:
                kept = self._idle.pop()
            except IndexError:  # another thread was faster
                return None
            if time.monotonic() - kept.since < LONGEST_KEPT and _works(kept.connection):
                return kept
            kept.opened.close()
        return None

    def _opened(self) -> _Kept:
        opened = ExitStack()
        connection = opened.enter_context(self._opening())
        connection.prepare_threshold = None  # a proxy between us need not know of prepared statements
        return _Kept(connection, opened, time.monotonic())

    def _take_back(self, kept: _Kept) -> None:
        idle = kept.connection.info.transaction_status == TransactionStatus.IDLE
        if idle and len(self._idle) < MOST_KEPT:
            self._idle.append(kept)
        else:
            kept.opened.close()


def _works(connection: Connection[Any]) -> bool:
    """Whether the server is there. It may have been restarted, or a firewall has forgotten the connection."""
    try:
        with connection.transaction():
            connection.execute("SELECT")
    except database_errors() as error:
        log.info("A kept connection is gone: %s", error)
        return False
    return True

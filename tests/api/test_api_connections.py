"""Connections are kept for later requests: each is lent to one request at a time, and only while it works."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import psutil
import psycopg
import pytest
from sqlalchemy.pool import QueuePool

from include.api import database
from include.api.database import MAX_IDLE, create_pool, pooled_connection
from include.time_limited_connection import TimeLimitedConnection

Connection = psycopg.Connection[Any]


@pytest.fixture
def opened() -> list[Connection]:
    """Every connection that was opened, in order."""
    return []


@pytest.fixture
def connect_to_database(database_url: str, opened: list[Connection]) -> Callable[[], Connection]:
    def connect() -> Connection:
        opened.append(psycopg.connect(database_url))
        return opened[-1]

    return connect


@pytest.fixture
def pool(connect_to_database: Callable[[], Connection]) -> Iterator[QueuePool]:
    pool = create_pool(connect_to_database)
    yield pool
    pool.dispose()


def test_the_next_request_gets_the_connection_of_the_previous_one(
    pool: QueuePool, opened: list[Connection]
) -> None:
    for _ in range(3):
        with pooled_connection(pool) as connection:
            connection.execute("SELECT 1")
            connection.commit()
    assert len(opened) == 1


def test_two_simultaneous_requests_get_two_connections(pool: QueuePool) -> None:
    with pooled_connection(pool) as one, pooled_connection(pool) as other:
        assert one is not other


def test_a_connection_that_the_server_ended_is_replaced(
    pool: QueuePool, opened: list[Connection], database_url: str
) -> None:
    with pooled_connection(pool) as connection, psycopg.connect(database_url, autocommit=True) as server:
        server.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
    with pooled_connection(pool) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert len(opened) == 2


def test_a_server_that_hangs_delays_a_request_once_and_not_for_each_connection(
    database_url: str,
) -> None:
    hung: list[Connection] = []
    waited: list[Connection] = []

    class QuicklyTimedOut(TimeLimitedConnection):
        """Waits only a second for a server that hangs."""

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            try:
                return super().wait(gen, interval, 1.0 if self in hung else timeout)
            except psycopg.OperationalError:
                waited.append(self)
                raise

    pool = create_pool(lambda: QuicklyTimedOut.connect(database_url))
    with ExitStack() as requests, ExitStack() as resumed:
        kept = [requests.enter_context(pooled_connection(pool)) for _ in range(3)]
        requests.close()
        for connection in kept:
            backend = psutil.Process(connection.info.backend_pid)
            backend.suspend()
            resumed.callback(backend.resume)
            hung.append(connection)
        for _ in kept:
            connection = requests.enter_context(pooled_connection(pool))
            assert connection.execute("SELECT 1").fetchone() == (1,)
    assert len(waited) == 1
    assert all(connection.closed for connection in kept)


def test_a_connection_with_an_open_transaction_is_not_reused(
    pool: QueuePool, opened: list[Connection]
) -> None:
    with suppress(RuntimeError), pooled_connection(pool) as connection:
        connection.execute("CREATE TABLE half (done int)")
        raise RuntimeError
    with pooled_connection(pool) as connection:
        assert connection.execute("SELECT to_regclass('half')").fetchone() == (None,)
    assert opened[0].closed


def test_an_old_connection_is_not_reused(
    connect_to_database: Callable[[], Connection], opened: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "MAX_AGE_SECONDS", 1)
    pool = create_pool(connect_to_database)
    with pooled_connection(pool):
        pass
    time.sleep(1.1)
    with pooled_connection(pool):
        pass
    assert len(opened) == 2
    assert opened[0].closed


def test_only_a_few_connections_are_kept(pool: QueuePool, opened: list[Connection]) -> None:
    with ExitStack() as requests:
        for _ in range(MAX_IDLE + 2):
            requests.enter_context(pooled_connection(pool))
    assert [connection.closed for connection in opened].count(True) == 2

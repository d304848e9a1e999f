"""Connections that are kept for the next request: lent to one at a time, and only while they work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any

import psycopg
import pytest

from include.api import connections
from include.api.connections import MOST_KEPT, KeptConnections

Connection = psycopg.Connection[Any]


@pytest.fixture
def opened() -> list[Connection]:
    """Every connection that was opened, in order."""
    return []


@pytest.fixture
def kept(database_url: str, opened: list[Connection]) -> KeptConnections:
    @contextmanager
    def opening() -> Iterator[Connection]:
        with closing(psycopg.connect(database_url)) as connection:
            opened.append(connection)
            yield connection

    return KeptConnections(opening)


def test_the_next_request_gets_the_connection_of_the_one_before(
    kept: KeptConnections, opened: list[Connection]
) -> None:
    for _ in range(3):
        with kept.lent() as connection:
            connection.execute("SELECT 1")
            connection.commit()
    assert len(opened) == 1


def test_two_requests_at_once_get_two_connections(kept: KeptConnections) -> None:
    with kept.lent() as one, kept.lent() as other:
        assert one is not other


def test_a_connection_that_the_server_ended_is_replaced(
    kept: KeptConnections, opened: list[Connection], database_url: str
) -> None:
    with kept.lent() as connection, psycopg.connect(database_url, autocommit=True) as server:
        server.execute("SELECT pg_terminate_backend(%s)", [connection.info.backend_pid])
    with kept.lent() as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    assert len(opened) == 2


def test_a_connection_in_the_middle_of_something_is_not_lent_again(
    kept: KeptConnections, opened: list[Connection]
) -> None:
    with suppress(RuntimeError), kept.lent() as connection:
        connection.execute("CREATE TABLE half (done int)")
        raise RuntimeError
    with kept.lent() as connection:
        assert connection.execute("SELECT to_regclass('half')").fetchone() == (None,)
    assert opened[0].closed


def test_an_old_connection_is_not_lent_again(
    kept: KeptConnections, opened: list[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    with kept.lent():
        pass
    monkeypatch.setattr(connections, "LONGEST_KEPT", 0.0)
    with kept.lent():
        pass
    assert len(opened) == 2
    assert opened[0].closed


def test_no_more_are_kept_than_a_few(kept: KeptConnections, opened: list[Connection]) -> None:
    with ExitStack() as requests:
        for _ in range(MOST_KEPT + 2):
            requests.enter_context(kept.lent())
    assert [connection.closed for connection in opened].count(True) == 2

"""Airflow's own API server under attack by clients that cannot log in: its routes, our routes, its memory."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest
import requests

from include.api.app import PREFIX
from include.serving.logins import MOST_FROM_ADDRESS, SECONDS
from include.serving.protocol import HEAD_SECONDS
from include.stack import processes
from include.stack.local import Stack
from include.stack.ports import open_session
from tests.support.api_client import get, token
from tests.support.raw_http import Connection, connect, head
from tests.support.soft_limit import soft_limit

pytestmark = pytest.mark.timeout(600)

MANY = 1_200
"""More connections than the 1,024 descriptors that most systems allow a program by default."""

HUGE = 400_000_000
BODIES = [
    ("POST", f"{PREFIX}/jobs/a/completion"),
    ("POST", "/api/v2/dags/train_yolo/dagRuns"),
    ("POST", "/auth/token"),
    ("PATCH", "/execution/task-instances/0198a1b2-0000-7000-8000-000000000000/run"),
]
"""Routes to which a client without a login can send a body: one of ours, and each kind of Airflow's."""


@pytest.fixture(scope="module")
def idle(api_stack: Stack) -> Iterator[list[Connection]]:
    """Many connections without a complete request; a tenth of them have sent part of a request header."""
    files = max(MANY + 500, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    with soft_limit(resource.RLIMIT_NOFILE, files), ExitStack() as open_connections:
        connections = [open_connections.enter_context(connect(api_stack.url)) for _ in range(MANY)]
        for connection in connections[::10]:
            connection.send("GET /api/v2/version HTTP/1.1\r\nHost: x\r\n")
        yield connections


@pytest.fixture
def server_process(api_stack: Stack) -> psutil.Process:
    [service] = [each for each in api_stack.airflow.services if each.name == "api-server"]
    process = processes.find_process(service)
    assert process is not None
    return process


def _memory(server: psutil.Process) -> int:
    family = [server, *server.children(recursive=True)]
    return sum(process.memory_info().rss for process in family)


def test_many_idle_connections_do_not_block_other_clients(api_stack: Stack, idle: list[Connection]) -> None:
    assert len(idle) == MANY
    assert get(api_stack, "/session", token(api_stack, "viewer")).status_code == 200


@pytest.mark.parametrize(("method", "path"), BODIES)
@pytest.mark.parametrize("announced", [{"Transfer_Encoding": "chunked"}, {"Content_Length": HUGE}])
def test_a_huge_body_is_refused_and_not_kept(
    api_stack: Stack, server_process: psutil.Process, method: str, path: str, announced: dict[str, str | int]
) -> None:
    before = _memory(server_process)
    with connect(api_stack.url) as connection:
        connection.send(head(method, path, Content_Type="application/json", **announced))
        sent = connection.upload(HUGE, chunked="Transfer_Encoding" in announced)
        grown = _memory(server_process) - before
        answer = connection.answer()
    assert answer.status in {401, 413}
    assert sent < HUGE / 4
    assert grown < 100_000_000


def test_an_endless_request_header_is_refused_and_not_kept(
    api_stack: Stack, server_process: psutil.Process
) -> None:
    before = _memory(server_process)
    with connect(api_stack.url) as connection:
        connection.send("GET /api/v2/version HTTP/1.1\r\nX-Endless: ")
        sent = connection.upload(HUGE, chunked=False)
        grown = _memory(server_process) - before
        # The answer may be lost, because the server closes the connection with data unread.
        assert connection.closed_within(10)
    assert sent < HUGE / 4
    assert grown < 100_000_000


def _log_in(stack: Stack, username: str, password: str, path: str = "/auth/token") -> requests.Response:
    with open_session() as session:
        body = {"username": username, "password": password}
        return session.post(f"{stack.url}{path}", json=body, timeout=60)


def test_guessing_passwords_is_slowed_down_without_locking_out_the_owner(
    api_stack: Stack,
) -> None:
    def owner() -> requests.Response:
        return _log_in(api_stack, api_stack.username, api_stack.password)

    assert owner().status_code == 201
    guesses = [
        _log_in(api_stack, f"nobody-{number}", "wrong", path)
        for number in range(MOST_FROM_ADDRESS)
        for path in ("/auth/token", "/auth/token/cli")
    ]
    statuses = [guess.status_code for guess in guesses]
    assert statuses == [401] * MOST_FROM_ADDRESS + [429] * MOST_FROM_ADDRESS
    assert guesses[-1].headers["retry-after"] == str(SECONDS)
    assert guesses[-1].json()["detail"].startswith("Too many failed logins: wait 60 seconds")
    assert owner().status_code == 201


def test_connections_without_a_request_are_closed(api_stack: Stack, idle: list[Connection]) -> None:
    silent, half = idle[1], idle[0]
    assert silent.closed_within(HEAD_SECONDS + 60)
    assert half.closed_within(HEAD_SECONDS + 60)
    assert all(connection.closed_within(60) for connection in idle)

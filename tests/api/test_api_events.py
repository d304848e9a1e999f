"""Events of a job, as a browser reads them: each arrives exactly once, and closed streams are forgotten."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
from fastapi import FastAPI
from psycopg import sql

from include.api.app import create_app
from include.api.events import LONGEST_SECONDS, RETRY_MILLISECONDS, follow
from include.api.hub import POLL_SECONDS, Hub
from include.deployment.connections import open_training_db
from include.jobs.repository import JobRepository
from include.stack.s3 import S3
from tests.support.airflow_connections import lead_to
from tests.support.api_server import open_app, serving
from tests.support.event_streams import Listener, epochs
from tests.support.jobs import claim, epoch_report, record_checkpoints, started
from tests.support.waiting import until

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def connections(monkeypatch: pytest.MonkeyPatch, migrated_url: str, s3: S3, tmp_path: Path) -> None:
    lead_to(monkeypatch, migrated_url, s3, "bucket", tmp_path)


@pytest.fixture(scope="module")
def app() -> FastAPI:
    return create_app()


@pytest.fixture(scope="module")
def url(app: FastAPI) -> Iterator[str]:
    with serving(open_app(app)) as url:
        yield url


@pytest.fixture
def hub(app: FastAPI) -> Hub:
    hub: Hub = app.state.hub
    return hub


@pytest.fixture
def listen(url: str) -> Iterator[Callable[..., Listener]]:
    """Open streams of a job's events, which are closed after the test."""
    opened: list[Listener] = []

    def listen(job_id: str = "a", **options: Any) -> Listener:
        opened.append(Listener(f"{url}/jobs/{job_id}/events", **options))
        return opened[-1]

    yield listen
    for listener in opened:
        listener.close()


def finish(jobs: JobRepository, epoch: int, **metrics: float) -> None:
    jobs.record_epoch("a", "run1", 1, epoch_report(epoch, **metrics))


def test_a_stream_begins_with_the_recorded_epochs_and_continues_with_new_ones(
    listen: Callable[..., Listener], jobs: JobRepository, connection: psycopg.Connection[Any], hub: Hub
) -> None:
    started(jobs, epochs=2)
    stream = listen()
    assert stream.answer.status_code == 200
    assert stream.answer.headers["content-type"].startswith("text/event-stream")
    assert stream.answer.headers["cache-control"] == "no-store"
    assert stream.answer.headers["x-accel-buffering"] == "no"
    first = stream.until("epoch", 2)
    assert first[0][0] == "job"
    assert (first[0][2]["job_id"], first[0][2]["status"]) == ("a", "running")
    assert first[0][2]["progress"]["finished_epochs"] == 2
    assert epochs(first) == [0, 1]
    finish(jobs, 2, loss=0.25)
    came = stream.until("epoch")
    assert epochs(came) == [2]
    assert came[-1][2] == json.loads(jobs.list_epochs("a")[2].model_dump_json())
    assert came[0][2]["progress"]["finished_epochs"] == 3
    record_checkpoints(connection)
    last = list(stream)
    assert [name for name, _, _ in last] == ["job", "end"]
    assert last[0][2]["status"] == "completed"
    until(lambda: hub.is_idle, "no listener is left", seconds=60, pause=0.1)


@pytest.mark.parametrize("options", [{"after": 0}, {"last_event_id": 0}, {"after": -1, "last_event_id": 0}])
def test_a_client_that_reconnects_gets_the_epochs_that_it_missed(
    listen: Callable[..., Listener], jobs: JobRepository, options: dict[str, int]
) -> None:
    started(jobs, epochs=3)
    assert epochs(listen(**options).until("epoch", 2)) == [1, 2]


def test_the_stream_of_an_ended_job_has_all_its_epochs_and_ends(
    listen: Callable[..., Listener], jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    started(jobs, epochs=3)
    record_checkpoints(connection)
    assert [name for name, _, _ in listen()] == ["job", "epoch", "epoch", "epoch", "end"]
    assert [name for name, _, _ in listen(after=2)] == ["job", "end"]


def test_epochs_that_a_new_attempt_repeats_are_sent_again(
    listen: Callable[..., Listener], jobs: JobRepository
) -> None:
    started(jobs, epochs=3)
    stream = listen()
    assert epochs(stream.until("epoch", 3)) == [0, 1, 2]
    jobs.start_training("a", "run1", 2, first_epoch=1)
    stream.until("job")
    jobs.record_epoch("a", "run1", 2, epoch_report(1, loss=9.0))
    again = stream.until("epoch")
    assert epochs(again) == [1]
    assert again[-1][2]["metrics"] == {"loss": 9.0}


def test_a_client_that_is_ahead_of_the_recorded_epochs_gets_all_of_them(
    listen: Callable[..., Listener], jobs: JobRepository
) -> None:
    started(jobs, epochs=2)
    assert epochs(listen(after=7).until("epoch", 2)) == [0, 1]


def test_an_update_by_another_program_is_sent(
    listen: Callable[..., Listener], jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    started(jobs)
    stream = listen()
    stream.until("job")
    connection.execute("UPDATE training_jobs SET error = 'the host application says so'")
    connection.commit()
    assert stream.until("job")[-1][2]["error"] == "the host application says so"


def test_a_job_that_cannot_be_shown_does_not_disturb_other_streams(
    listen: Callable[..., Listener], jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    started(jobs)
    claim(jobs, "b", "run2")
    connection.execute("INSERT INTO training_epochs (job_id, epoch, metrics) VALUES ('b', 0, '[]')")
    connection.commit()
    assert list(listen("b")) == []
    stream = listen()
    stream.until("job")
    broken = listen("b")
    finish(jobs, 0)
    assert epochs(stream.until("epoch")) == [0]
    assert list(broken) == []


def test_a_row_that_is_deleted_ends_the_stream(
    listen: Callable[..., Listener], jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    started(jobs)
    stream = listen()
    stream.until("job")
    connection.execute("DELETE FROM training_jobs")
    connection.commit()
    assert list(stream) == []
    assert listen().answer.status_code == 404


@pytest.mark.parametrize(
    ("job_id", "options", "status"),
    [("nobody", {}, 404), ("a", {"after": -2}, 422), ("a", {"after": 2**31}, 422)],
)
def test_a_bad_request_is_refused_before_the_stream_begins(
    listen: Callable[..., Listener], jobs: JobRepository, job_id: str, options: dict[str, int], status: int
) -> None:
    started(jobs)
    answer = listen(job_id, **options).answer
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_client_that_disconnects_is_forgotten(
    listen: Callable[..., Listener], jobs: JobRepository, hub: Hub
) -> None:
    started(jobs)
    streams = [listen() for _ in range(3)]
    for stream in streams:
        stream.until("job")
    assert not hub.is_idle
    for stream in streams:
        stream.close()
    until(lambda: hub.is_idle, "no listener is left", seconds=60, pause=0.1)


def test_a_hundred_viewers_need_one_database_connection(migrated_url: str, jobs: JobRepository) -> None:
    started(jobs, epochs=1)
    opened, most = [0], [0]

    @contextmanager
    def counting() -> Iterator[psycopg.Connection[Any]]:
        opened[0] += 1
        most[0] = max(most[0], opened[0])
        try:
            with psycopg.connect(migrated_url) as connection:
                yield connection
        finally:
            opened[0] -= 1

    async def read(hub: Hub, last: int) -> list[int]:
        seen: list[int] = []
        async with asyncio.timeout(60):
            async for event in follow(hub, "a", -1, 60):
                if event.event == "epoch":
                    seen.append(int(event.id or -1))
                    if seen[-1] == last:
                        break
        return seen

    async def all_of_them() -> list[list[int]]:
        hub = Hub(counting, seconds=0.05)
        readers = [asyncio.create_task(read(hub, 2)) for _ in range(100)]
        for epoch in (1, 2):
            await asyncio.sleep(0.2)
            await asyncio.to_thread(finish, jobs, epoch)
        return await asyncio.gather(*readers)

    assert asyncio.run(all_of_them()) == [[0, 1, 2]] * 100
    assert most == [1]


def test_a_stream_ends_by_itself_so_that_permissions_are_checked_again(
    jobs: JobRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    started(jobs, epochs=1)
    now = [0.0]
    monkeypatch.setattr("include.api.events.time", SimpleNamespace(monotonic=lambda: now[0]))

    async def names() -> list[str | None]:
        hub = Hub(open_training_db)
        events = []
        async for event in follow(hub, "a", -1, LONGEST_SECONDS):
            events.append(event)
            if event.event == "epoch":
                now[0] += LONGEST_SECONDS
        assert events[0].retry == RETRY_MILLISECONDS
        return [event.event for event in events]

    assert asyncio.run(names()) == ["job", "epoch"]


@contextmanager
def unavailable(url: str, postgres: Any) -> Iterator[None]:
    """Let the database refuse connections during the block."""
    with psycopg.connect(postgres.build_url("template1"), autocommit=True) as server:
        database = sql.Identifier(str(psycopg.conninfo.conninfo_to_dict(url)["dbname"]))
        server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(database))
        try:
            with pytest.raises(psycopg.OperationalError):
                psycopg.connect(url)
            yield
        finally:
            server.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))


def test_a_short_outage_of_the_database_does_not_interrupt_streams(
    listen: Callable[..., Listener], jobs: JobRepository, postgres: Any, migrated_url: str
) -> None:
    started(jobs)
    stream = listen()
    stream.until("job")
    with unavailable(migrated_url, postgres):
        time.sleep(2 * POLL_SECONDS)  # the hub polls the database meanwhile
    finish(jobs, 0)
    assert epochs(stream.until("epoch")) == [0]


def test_a_long_outage_of_the_database_ends_streams_so_that_pages_show_it(
    jobs: JobRepository, postgres: Any, migrated_url: str
) -> None:
    started(jobs)

    async def names() -> list[str | None]:
        hub = Hub(open_training_db, seconds=0.05, outage_seconds=0)
        events = []
        with ExitStack() as stack:
            async with asyncio.timeout(60):
                async for event in follow(hub, "a", -1, LONGEST_SECONDS):
                    events.append(event.event)
                    stack.enter_context(unavailable(migrated_url, postgres))
        return events

    assert asyncio.run(names()) == ["job"]


SERVE = """
import os, uvicorn
from tests.support.api_server import open_app

class Server(uvicorn.Server):
    async def startup(self, sockets=None):
        await super().startup(sockets)
        print(self.servers[0].sockets[0].getsockname()[1], flush=True)

# As Airflow starts it: two minutes for open connections
Server(uvicorn.Config(open_app(), port=0, timeout_graceful_shutdown=120, log_config=None)).run()
"""


@pytest.mark.long
def test_a_stopping_server_does_not_wait_for_streams(jobs: JobRepository, tmp_path: Path) -> None:
    started(jobs, epochs=1)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = next(line for line in server.stdout if line.strip().isdigit()).strip()
        with closing(Listener(f"http://127.0.0.1:{port}/jobs/a/events")) as stream:
            assert epochs(stream.until("epoch")) == [0]
            server.send_signal(signal.SIGTERM)
            assert list(stream) == []
        server.wait(60)  # it would wait twice as long for an open stream
    finally:
        server.kill()
        server.wait()

"""Endless requests and connections are refused, whichever resource they would exhaust."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from include.api.events import MAX_STREAMS
from include.jobs.repository import JobRepository
from include.serving import protocol
from include.serving.bodies import MOST_HEADER_BYTES, MOST_QUERY_BYTES, SMALL, BodyLimit, RequestLimits
from include.serving.protocol import LimitedProtocol
from include.serving.server import ServerSettingError, list_root_middlewares
from include.stack.s3 import S3
from tests.support.airflow_connections import lead_to
from tests.support.api_server import open_app, serving
from tests.support.event_streams import Listener
from tests.support.jobs import started
from tests.support.raw_http import connect, head

COMPLETION = "/jobs/a/completion"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Yield the URL of a server that serves only our API."""
    with serving(open_app()) as url:
        yield url


async def _echo_size(request: Request) -> PlainTextResponse:
    return PlainTextResponse(str(len(await request.body())))


async def _answer_late(_: Request) -> PlainTextResponse:
    await asyncio.sleep(1.2)
    return PlainTextResponse("late")


def _any_app() -> Starlette:
    return Starlette(
        routes=[Route("/size", _echo_size, methods=["GET", "POST"]), Route("/late", _answer_late)]
    )


@pytest.fixture(scope="module")
def limited() -> Iterator[str]:
    """Yield the URL of an application that waits a second for a request body, of at most 100 kB."""
    with serving(RequestLimits(_any_app(), BodyLimit(100_000, 1.0))) as url:
        yield url


@pytest.fixture
def guarded(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Yield the URL of an application whose connections may be silent for half a second."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    with serving(_any_app(), LimitedProtocol) as url:
        yield url


def test_a_body_with_a_too_large_content_length_is_refused_before_it_is_sent(url: str) -> None:
    with connect(url) as connection:
        connection.send(head("POST", COMPLETION, Content_Length=SMALL.most_bytes + 1))
        answer = connection.answer()
    assert answer.status == 413
    assert answer.headers["content-type"] == "application/problem+json"
    assert "larger than the limit of 64 KiB" in answer.body


@pytest.mark.parametrize("announced", [{"Transfer_Encoding": "chunked"}, {"Content_Length": 60_000_000}])
def test_a_body_without_an_end_is_refused_while_it_is_sent(url: str, announced: dict[str, str | int]) -> None:
    with connect(url) as connection:
        connection.send(head("POST", COMPLETION, **announced))
        sent = connection.upload(60_000_000, chunked="Transfer_Encoding" in announced)
        assert connection.answer().status == 413
    assert sent < 30_000_000  # bytes in the kernel's buffers and in transit


def test_a_body_of_the_largest_size_is_accepted() -> None:
    app = RequestLimits(_any_app(), BodyLimit(100_000, 60.0))
    with serving(app) as limited, connect(limited) as connection:
        connection.send(head("POST", "/size", Content_Length=100_000) + "x" * 100_000)
        assert connection.closed_within(0.5) is False
        assert connection.answer().body == "100000"


def test_a_trickling_body_times_out(limited: str) -> None:
    with connect(limited) as connection:
        connection.send(head("POST", "/size", Content_Length=1000))
        for _ in range(8):
            connection.send("x")
            if connection.closed_within(0.25):
                break
        else:
            pytest.fail("the body can trickle forever")
        answer = connection.answer()
    assert answer.status == 408
    assert "did not arrive within 1 seconds" in answer.body


def test_a_slow_response_does_not_time_out(limited: str) -> None:
    with connect(limited) as connection:
        connection.send(head("GET", "/late"))
        assert connection.answer().status == 200


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (head("GET", f"/jobs?prefix={'x' * MOST_QUERY_BYTES}"), 414),
        (head("GET", "/jobs", X_Long="x" * MOST_HEADER_BYTES), 431),
    ],
)
def test_a_long_query_and_long_headers_are_refused(url: str, request_head: str, status: int) -> None:
    with connect(url) as connection:
        connection.send(request_head)
        assert connection.answer().status == status


@pytest.mark.parametrize(
    "beginning",
    ["", "GET /size HTTP/1.1\r\nHost: x\r\n", "\r\n\r\n"],
    ids=["silent", "half a head", "empty lines"],
)
def test_a_connection_without_a_request_is_closed(guarded: str, beginning: str) -> None:
    with connect(guarded) as connection:
        connection.send(beginning)
        assert connection.closed_within(60)


def test_empty_lines_do_not_keep_a_used_connection_open(guarded: str) -> None:
    with connect(guarded) as connection:
        connection.send(head("GET", "/size"))
        assert connection.answer().status == 200
        connection.send("\r\n")
        assert connection.closed_within(60)


def test_a_trickling_request_header_times_out(guarded: str) -> None:
    with connect(guarded) as connection:
        connection.send("GET /size HTTP/1.1\r\n")
        closed = False
        for _ in range(10):
            connection.send("X-More: x\r\n")
            if closed := connection.closed_within(0.2):
                break
        assert closed


def test_a_request_header_without_an_end_is_refused(guarded: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 60)  # so that the size limit applies first
    with connect(guarded) as connection:
        connection.send("GET /size HTTP/1.1\r\nX-Endless: ")
        sent = connection.upload(60_000_000, chunked=False)
        assert connection.closed_within(60)
    assert sent < 30_000_000  # the limit is 64 KiB; the rest was in the kernel's buffers


def test_a_connection_whose_request_is_answered_before_its_body_arrives_does_not_stay_open(
    guarded: str,
) -> None:
    with connect(guarded) as connection:
        connection.send(head("POST", "/nowhere", Content_Length=100))
        assert connection.answer().status == 404
        connection.send("x")
        assert connection.closed_within(60)


def test_a_request_may_take_longer_than_its_header_and_the_next_one_may_follow(guarded: str) -> None:
    with connect(guarded) as connection:
        connection.send(head("GET", "/late"))
        assert connection.answer().body == "late"
        connection.received = b""
        assert not connection.closed_within(1)  # kept alive for uvicorn's keep-alive timeout
        connection.send(head("GET", "/size"))
        assert connection.answer().body == "0"


def test_a_user_may_open_only_a_limited_number_of_event_streams(
    jobs: JobRepository,
    connection: psycopg.Connection[object],
    monkeypatch: pytest.MonkeyPatch,
    migrated_url: str,
    s3: S3,
    tmp_path: Path,
) -> None:
    lead_to(monkeypatch, migrated_url, s3, "bucket", tmp_path)
    started(jobs, epochs=0)
    connection.commit()
    with serving(open_app()) as url, ExitStack() as streams:
        for _ in range(MAX_STREAMS):
            stream = Listener(f"{url}/jobs/a/events")
            streams.callback(stream.close)
            assert stream.answer.status_code == 200
        refused = Listener(f"{url}/jobs/a/events").answer
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
        assert "close some streams first" in refused.json()["detail"]
        streams.close()
        again = Listener(f"{url}/jobs/a/events")
        streams.callback(again.close)
        assert again.answer.status_code == 200


@pytest.mark.parametrize("given", ["0", "-1", "ten", "1e9", "99999"])
def test_an_invalid_limit_is_refused_with_a_sentence(given: str) -> None:
    message = r"MAX_REQUEST_MIB='.*' is not a whole number between 1 and 4096"
    with pytest.raises(ServerSettingError, match=message):
        list_root_middlewares({}, {"MAX_REQUEST_MIB": given})

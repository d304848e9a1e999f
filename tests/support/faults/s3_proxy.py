"""An S3 server that fails: a proxy that reads each request completely and decides how to answer."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from typing import NamedTuple, Self
from urllib.parse import urlsplit

from tests.support.faults.hold import Contact, Hold
from tests.support.http_server import Handler, Server

_SLICE_SECONDS = 0.05
_OURS = {"connection", "expect", "transfer-encoding", "keep-alive"}
"""Headers of the connection rather than the request."""


class Answer(NamedTuple):
    """A server's answer to a request."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Request(NamedTuple):
    """A request to the proxy; `forward` sends it to the real server."""

    method: str
    path: str
    body: bytes
    forward: Callable[[], Answer]


Behaviour = Callable[[Request], Answer | None]
"""A function that returns the answer to a request, or None to close the connection without an answer."""


class S3Proxy:
    """Forwards requests to `endpoint_url` unless another behaviour is set; one request per connection."""

    def __init__(self, endpoint_url: str, hold: Hold) -> None:
        address = urlsplit(endpoint_url)
        assert address.hostname
        assert address.port
        self.server = (address.hostname, address.port)
        self.hold = hold
        self.behave: Behaviour = _forward
        self._listener = _Server(0, self).__enter__()

    @property
    def endpoint_url(self) -> str:
        """Return the address of this proxy."""
        return self._listener.url

    @contextmanager
    def behave_as(self, behaviour: Behaviour) -> Iterator[None]:
        """Apply the behaviour to every request during the block."""
        self.behave = behaviour
        try:
            yield
        finally:
            self.behave = _forward

    @contextmanager
    def hang(self) -> Iterator[None]:
        """Answer nothing during the block; then close the connections without an answer."""
        ended = threading.Event()

        def wait(_: Request) -> None:
            ended.wait()

        try:
            with self.behave_as(wait):
                yield
        finally:
            ended.set()

    @contextmanager
    def refuse(self) -> Iterator[None]:
        """Refuse connections and leave pending requests unanswered during the block."""
        with self.behave_as(lambda _: None):
            self._listener.__exit__()
            try:
                yield
            finally:
                self._listener = _Server(self._listener.server_port, self).__enter__()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.release()
        self._listener.__exit__()


def answer_with(status: int, code: str) -> Behaviour:
    """Return a behaviour that answers every request with this S3 error."""
    body = f"<Error><Code>{code}</Code><Message>Injected.</Message></Error>".encode()
    return lambda _: Answer(status, [("Content-Type", "application/xml")], body)


def corrupt(change: Callable[[bytes], bytes]) -> Behaviour:
    """Return a behaviour that changes the bytes of each .pt that is read, but not its declared length."""

    def behave(request: Request) -> Answer:
        answer = request.forward()
        is_object = request.method == "GET" and request.path.partition("?")[0].endswith(".pt")
        return answer._replace(body=change(answer.body)) if is_object and answer.status < 300 else answer

    return behave


def throttle(bytes_per_second: int) -> Behaviour:
    """Return a behaviour that transfers each body at the speed of a slow link."""

    def behave(request: Request) -> Answer:
        time.sleep(len(request.body) / bytes_per_second)
        answer = request.forward()
        time.sleep(len(answer.body) / bytes_per_second)
        return answer

    return behave


def _forward(request: Request) -> Answer:
    return request.forward()


class _Server(Server):
    request_queue_size = 64

    def __init__(self, port: int, proxy: S3Proxy) -> None:
        self.proxy = proxy
        super().__init__(_Handler, port)

    def handle_error(self, *_: object) -> None:
        """Ignore errors, because killed clients close their connections."""


class _Handler(Handler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        proxy = self.server.proxy
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        proxy.hold.pass_by(Contact("s3", self.command, urlsplit(self.path).path))
        request = Request(self.command, self.path, body, lambda: self._ask(proxy.server, body))
        answer = proxy.behave(request)
        self.close_connection = True
        if answer is not None:
            with suppress(OSError):
                self._pass_on(answer)
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def _ask(self, server: tuple[str, int], body: bytes) -> Answer:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OURS}
        connection = HTTPConnection(*server, timeout=60)
        try:
            connection.request(self.command, self.path, body or None, headers)
            response = connection.getresponse()
            return Answer(response.status, response.getheaders(), response.read())
        finally:
            connection.close()

    def _pass_on(self, answer: Answer) -> None:
        """Send the answer with its declared length, so that clients notice a truncated body."""
        names = {name.lower() for name, _ in answer.headers}
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in _OURS:
                self.send_header(name, value)
        if "content-length" not in names:
            self.send_header("Content-Length", str(len(answer.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

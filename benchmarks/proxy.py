"""A TCP proxy in front of an S3 server that counts requests and bytes, and adds a round-trip time."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from contextlib import suppress
from queue import Queue
from typing import TYPE_CHECKING, Self
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable

_BLOCK = 256 * 1024
_UNDERWAY = 64
"""Maximum number of blocks in flight in one direction of a connection: 16 MB."""


class Proxy:
    """Forwards connections to `endpoint_url`, and delays each direction by half of `round_trip` seconds."""

    def __init__(self, endpoint_url: str, round_trip: float = 0.0) -> None:
        address = urlsplit(endpoint_url)
        self._server = (address.hostname or "", address.port or 80)
        self._delay = round_trip / 2
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self.requests: Counter[str] = Counter()
        """Number of requests by operation: LIST for a listing, otherwise the HTTP method."""
        self.sent = self.received = 0
        """Number of bytes to and from the server, headers included."""

    @property
    def endpoint_url(self) -> str:
        """The URL to use instead of the server's."""
        return "http://{}:{}".format(*self._listener.getsockname())

    def __enter__(self) -> Self:
        """Start accepting connections."""
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop accepting connections; open ones continue until either end closes them."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._server)
                except OSError:
                    client.close()
                    continue
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._carry(client, server, RequestReader(self._count).feed)
                self._carry(server, client, self._count_received)

    def _carry(self, source: socket.socket, target: socket.socket, see: Callable[[bytes], None]) -> None:
        underway: Queue[tuple[float, bytes]] = Queue(_UNDERWAY)

        def receive() -> None:
            with suppress(OSError):
                while block := source.recv(_BLOCK):
                    see(block)
                    underway.put((time.monotonic() + self._delay, block))
            underway.put((0.0, b""))

        def send() -> None:
            with suppress(OSError):
                while (due := underway.get())[1]:
                    time.sleep(max(0.0, due[0] - time.monotonic()))
                    target.sendall(due[1])
            for end in (source, target):
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

        for work in (receive, send):
            threading.Thread(target=work, daemon=True).start()

    def _count(self, operation: str | None, size: int) -> None:
        with self._lock:
            self.sent += size
            if operation is not None:
                self.requests[operation] += 1

    def _count_received(self, block: bytes) -> None:
        with self._lock:
            self.received += len(block)


class RequestReader:
    """Finds the requests in the bytes of one connection; every body must have a Content-Length.

    `count` is called with an operation and a number of bytes. The operation is None unless the bytes complete
    the header of a request.
    """

    def __init__(self, count: Callable[[str | None, int], None]) -> None:
        self._count = count
        self._head = b""
        self._body = 0

    def feed(self, block: bytes) -> None:
        """Parse the next bytes."""
        while block:
            body, block = block[: self._body], block[self._body :]
            self._body -= len(body)
            self._count(None, len(body))
            if not block:
                return
            head, end, rest = (self._head + block).partition(b"\r\n\r\n")
            if not end:
                self._head = head
                return
            self._head = b""
            self._body = _content_length(head)
            self._count(_operation(head), len(head) + len(end))
            block = rest


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _operation(head: bytes) -> str:
    """Return the operation of a request: LIST, or the HTTP method."""
    method, target = head.split(b" ", 2)[:2]
    address = urlsplit(target.decode("ascii"))
    of_a_bucket = "/" not in address.path.strip("/")
    query = parse_qs(address.query, keep_blank_values=True)
    if method == b"GET" and of_a_bucket and not query.keys() & {"location", "versioning", "cors", "policy"}:
        return "LIST"
    return method.decode("ascii")

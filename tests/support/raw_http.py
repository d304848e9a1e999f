"""HTTP as an attacker writes it: by hand, in pieces, and without an end."""

from __future__ import annotations

import select
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

PIECE = b"x" * 65_536
"""A piece of an endless request body."""


@dataclass
class Answer:
    """A response: its status, its headers by lower-case name, and the beginning of its body."""

    status: int
    headers: dict[str, str]
    body: str


@dataclass
class Connection:
    """A connection to a server."""

    raw: socket.socket
    received: bytes = field(default=b"")

    def send(self, text: str | bytes) -> None:
        self.raw.sendall(text.encode() if isinstance(text, str) else text)

    def closed_within(self, seconds: float) -> bool:
        """Return whether the server closes the connection within `seconds`; receive its bytes until then."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not self._readable(left):
                continue
            try:
                block = self.raw.recv(65_536)
            except ConnectionResetError:
                return True
            if not block:
                return True
            self.received += block
        return False

    def answer(self, seconds: float = 60) -> Answer:
        """Wait for the head of the server's answer; return the answer."""
        deadline = time.monotonic() + seconds
        while b"\r\n\r\n" not in self.received:
            assert self._readable(deadline - time.monotonic()), "no answer"
            block = self.raw.recv(65_536)
            assert block, f"closed after {self.received!r}"
            self.received += block
        head, _, body = self.received.partition(b"\r\n\r\n")
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        return Answer(int(status.split()[1]), headers, body.decode(errors="replace"))

    def upload(self, most_bytes: int, *, chunked: bool) -> int:
        """Send pieces of a body until the server answers or closes; return the number of bytes sent."""
        sent = 0
        with suppress(ConnectionError):  # the server closed the connection while a piece was being sent
            while sent < most_bytes and not self._readable(0):
                self.send(f"{len(PIECE):x}\r\n".encode() + PIECE + b"\r\n" if chunked else PIECE)
                sent += len(PIECE)
        return sent

    def _readable(self, seconds: float) -> bool:
        # select() itself refuses descriptors above 1024.
        poll = select.poll()
        poll.register(self.raw, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))


@contextmanager
def connect(url: str, trusted: Path | None = None) -> Iterator[Connection]:
    """Connect to the server at `url`, with TLS if a certificate to trust is given."""
    parts = urlsplit(url)
    with socket.create_connection((str(parts.hostname), int(parts.port or 80)), timeout=20) as raw:
        if trusted is None:
            yield Connection(raw)
            return
        context = ssl.create_default_context(cafile=str(trusted))
        with context.wrap_socket(raw, server_hostname=parts.hostname) as encrypted:
            yield Connection(encrypted)


def head(method: str, path: str, **headers: str | int) -> str:
    """Return the head of a request; in the names of headers, write _ for -."""
    named = {"Host": "localhost"} | headers
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items()]
    return "\r\n".join([f"{method} {path} HTTP/1.1", *lines, "", ""])

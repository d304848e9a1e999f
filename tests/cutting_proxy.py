"""A network that breaks: a TCP proxy that cuts connections in the middle of what they carry."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

_BLOCK = 16 * 1024


class CuttingProxy:
    """Forwards to `endpoint_url`, and cuts a connection once it has carried what may pass in one direction.

    sent is what may pass to the server, received what may pass back, in bytes; None is all. answer_to_large
    cuts where the server answers to a request of more bytes than that, before the answer has passed. Only the
    first `cuts` connections that get that far are cut; the others pass.
    """

    def __init__(
        self,
        endpoint_url: str,
        *,
        sent: int | None = None,
        received: int | None = None,
        answer_to_large: int | None = None,
        cuts: int = 1_000_000,
    ) -> None:
        address = urlsplit(endpoint_url)
        assert address.port is not None
        self._server = (str(address.hostname), address.port)
        self._sent, self._received, self._answer_to_large = sent, received, answer_to_large
        self._left = cuts
        self._lock = threading.Lock()
        self.cuts = 0
        self._listener = socket.create_server(("127.0.0.1", 0))

    @property
    def endpoint_url(self) -> str:
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                connection = _Connection(client, server)
                for up in (True, False):
                    threading.Thread(target=self._carry, args=(connection, up), daemon=True).start()

    def _carry(self, connection: _Connection, up: bool) -> None:
        source, target = (
            (connection.client, connection.server) if up else (connection.server, connection.client)
        )
        with suppress(OSError):
            while block := source.recv(_BLOCK):
                connection.count(up, len(block))
                if self._cut_now(connection, up):
                    break
                target.sendall(block)
        connection.close()

    def _cut_now(self, connection: _Connection, up: bool) -> bool:
        limit = self._sent if up else self._received
        carried = connection.sent if up else connection.received
        late = not up and self._answer_to_large is not None and connection.sent > self._answer_to_large
        if not late and (limit is None or carried <= limit):
            return False
        with self._lock:
            if self._left == 0:
                return False
            self._left -= 1
            self.cuts += 1
            return True


class _Connection:
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server
        self.sent = self.received = 0

    def count(self, up: bool, size: int) -> None:
        if up:
            self.sent += size
        else:
            self.received += size

    def close(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

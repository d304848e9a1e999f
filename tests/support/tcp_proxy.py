"""A TCP proxy in front of a server; a subclass decides what it carries."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

BLOCK = 16 * 1024


class TcpProxy:
    """Accepts connections at `endpoint_url` within its `with` block, and passes each to `serve`."""

    def __init__(self, endpoint_url: str) -> None:
        address = urlsplit(endpoint_url)
        assert address.port is not None
        self._server = (str(address.hostname), address.port)
        self._lock = threading.Lock()
        self._listener = socket.socket()
        # A small buffer, which accepted sockets inherit: a larger one would accept bytes that must hang, and
        # make uploads faster than a test can act.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BLOCK)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen()

    @property
    def endpoint_url(self) -> str:
        host, port = self._listener.getsockname()
        return f"http://{host}:{port}"

    def serve(self, client: socket.socket) -> None:
        """Start to carry the client's bytes; the proxy stops accepting if this raises an OSError."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self.serve(self._listener.accept()[0])


class Connection:
    """A client's connection to a proxy, and the proxy's connection to the server."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client, self.server = client, server

    def close(self) -> None:
        for end in (self.client, self.server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

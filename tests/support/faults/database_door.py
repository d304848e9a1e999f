"""A proxy in front of PostgreSQL that can be watched and frozen."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Self
from urllib.parse import urlsplit

from tests.support.faults.hold import Contact, Hold

_BLOCK = 16 * 1024


class DatabaseProxy:
    """A proxy that forwards to the server of `url`."""

    def __init__(self, url: str, hold: Hold) -> None:
        self._place = urlsplit(url)
        assert self._place.hostname
        assert self._place.port
        self._server = (self._place.hostname, self._place.port)
        self._hold = hold
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Return the given URL with the address of this proxy."""
        user = self._place.netloc.rpartition("@")[0]
        port = self._listener.getsockname()[1]
        return self._place._replace(netloc=f"{user}@127.0.0.1:{port}").geturl()

    @contextmanager
    def freeze(self) -> Iterator[None]:
        """Forward nothing during the block, like a stopped server; connections stay open."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.set()
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        self._hold.pass_by(Contact("postgres"))
        self._open.wait()
        try:
            server = socket.create_connection(self._server)
        except OSError:
            client.close()
            return
        threading.Thread(target=self._carry, args=(server, client), daemon=True).start()
        self._carry(client, server)

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while block := source.recv(_BLOCK):
                self._open.wait()
                target.sendall(block)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

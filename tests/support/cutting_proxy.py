"""A failing network: a TCP proxy that cuts, stalls, slows or damages connections, or answers `503`."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import Literal

from tests.support.tcp_proxy import BLOCK, Connection, TcpProxy

_TRICKLE_SECONDS = 0.05
_SLOW_DOWN = b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"


class CuttingProxy(TcpProxy):
    """Forwards to `endpoint_url`, and cuts a connection once one of its directions exceeds a limit.

    `sent` limits the bytes to the server, and `received` the bytes from the server; None means no limit.
    `answer_to_large` cuts a connection that has sent more bytes than this when the server answers, before any
    of the answer passes. Only the first `cuts` connections that reach a limit fail; later ones pass. `then`
    is the kind of failure: "cut", "hang" (carry nothing until `heal`), "trickle" (pause before each block) or
    "flip" (change a bit of one block). The first `throttled` connections are answered 503 SlowDown.
    """

    def __init__(
        self,
        endpoint_url: str,
        *,
        sent: int | None = None,
        received: int | None = None,
        answer_to_large: int | None = None,
        cuts: int = 1_000_000,
        then: Literal["cut", "hang", "trickle", "flip"] = "cut",
        throttled: int = 0,
    ) -> None:
        super().__init__(endpoint_url)
        self._sent, self._received, self._answer_to_large = sent, received, answer_to_large
        self._left = cuts
        self._then = then
        self._throttled = throttled
        self._healed = threading.Event()
        self.failing = threading.Event()
        self.cuts = 0
        self._ended: list[threading.Event] = []

    def heal(self) -> None:
        """Carry everything from now on, beginning with the bytes that were held back."""
        self._healed.set()

    def stop_cutting(self) -> None:
        """Let every connection pass from now on."""
        with self._lock:
            self._left = 0

    def wait_for_the_failing(self) -> None:
        """Wait until each failed connection is closed by one of its ends."""
        for ended in self._ended:
            assert ended.wait(60)

    def __exit__(self, *_: object) -> None:
        self.heal()
        super().__exit__()

    def serve(self, client: socket.socket) -> None:
        if self._throttled:
            self._throttled -= 1
            threading.Thread(target=_answer_slow_down, args=(client,), daemon=True).start()
            return
        connection = _Connection(client, socket.create_connection(self._server))
        for up in (True, False):
            threading.Thread(target=self._carry, args=(connection, up), daemon=True).start()

    def _carry(self, connection: _Connection, up: bool) -> None:
        source, target = (
            (connection.client, connection.server) if up else (connection.server, connection.client)
        )
        failing = False
        with suppress(OSError):
            while block := source.recv(BLOCK):
                connection.count(up, len(block))
                if not failing and self._fail_now(connection, up):
                    if self._then == "cut":
                        break
                    failing = True
                    if self._then == "hang":
                        self._healed.wait()
                    if self._then == "flip":
                        block = block[:-1] + bytes([block[-1] ^ 1])
                if failing and self._then == "trickle":
                    self._healed.wait(_TRICKLE_SECONDS)
                target.sendall(block)
        connection.close()

    def _fail_now(self, connection: _Connection, up: bool) -> bool:
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
            self._ended.append(connection.ended)
        self.failing.set()
        return True


class _Connection(Connection):
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        super().__init__(client, server)
        self.sent = self.received = 0
        self.ended = threading.Event()

    def count(self, up: bool, size: int) -> None:
        if up:
            self.sent += size
        else:
            self.received += size

    def close(self) -> None:
        super().close()
        self.ended.set()


def _answer_slow_down(client: socket.socket) -> None:
    with client, suppress(OSError):
        client.recv(BLOCK)
        head = f"HTTP/1.1 503 Slow Down\r\nContent-Length: {len(_SLOW_DOWN)}\r\nConnection: close\r\n\r\n"
        client.sendall(head.encode() + _SLOW_DOWN)

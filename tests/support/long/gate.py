"""A proxy in front of S3 that holds one request, so that a process can be killed in the middle of it."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from include.stack.airflow import Airflow
from include.stack.local import Stack
from tests.support.tcp_proxy import BLOCK, Connection, TcpProxy

_REQUEST = re.compile(rb"([A-Z]+) (\S+) HTTP/1\.1\r\n")
_CONTINUE = b"HTTP/1.1 100"

Stage = Literal["received", "sent", "answered"]


class Plan(NamedTuple):
    """The request to hold, given by its method and the end of its path, and the stage at which to hold it.

    received: nothing is forwarded yet; sent: a part is forwarded; answered: the response is held back.
    """

    method: str
    ending: str
    stage: Stage


class Gate(TcpProxy):
    """A proxy that forwards to `endpoint_url`, and closes a connection after holding its request."""

    def __init__(self, endpoint_url: str) -> None:
        super().__init__(endpoint_url)
        self._plan: Plan | None = None
        self._open = threading.Event()
        self._held = threading.Event()

    def shut(self, plan: Plan) -> None:
        """Hold the next request that matches the plan."""
        self._open.clear()
        self._held.clear()
        self._plan = plan

    def wait(self, seconds: float = 240) -> None:
        """Wait until the request is held."""
        assert self._held.wait(seconds), f"no request to hold: {self._plan}"

    def open(self) -> None:
        """Close the held connection, and hold no further requests."""
        self._plan = None
        self._open.set()

    def __exit__(self, *_: object) -> None:
        self.open()
        super().__exit__()

    def serve(self, client: socket.socket) -> None:
        try:
            connection = _Connection(client, socket.create_connection(self._server))
        except OSError:
            client.close()
            return
        for carry in (self._carry_up, self._carry_down):
            threading.Thread(target=carry, args=(connection,), daemon=True).start()

    def _carry_up(self, connection: _Connection) -> None:
        with closing(connection), suppress(OSError):
            while block := connection.client.recv(BLOCK):
                if request := _REQUEST.match(block):
                    connection.start_request(request[1].decode(), request[2].decode())
                    self._hold(connection, "received")
                else:
                    connection.blocks += 1
                    if connection.blocks > 1:
                        self._hold(connection, "sent")
                connection.server.sendall(block)

    def _carry_down(self, connection: _Connection) -> None:
        with closing(connection), suppress(OSError):
            while block := connection.server.recv(BLOCK):
                if not block.startswith(_CONTINUE):
                    self._hold(connection, "answered")
                connection.client.sendall(block)

    def _hold(self, connection: _Connection, stage: Stage) -> None:
        with self._lock:
            plan = self._plan
            if plan is None or plan.stage != stage or not connection.matches(plan):
                return
            self._plan = None
        self._held.set()
        self._open.wait()
        raise ConnectionAbortedError


class _Connection(Connection):
    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        super().__init__(client, server)
        self.blocks = 0
        self._method = self._path = ""

    def start_request(self, method: str, path: str) -> None:
        self._method, self._path, self.blocks = method, path.partition("?")[0], 0

    def matches(self, plan: Plan) -> bool:
        return self._method == plan.method and self._path.endswith(plan.ending)


@dataclass(frozen=True)
class GatedStack(Stack):
    """A stack in which only Airflow reaches S3 through the gate."""

    gate: Gate | None = None

    @property
    def airflow(self) -> Airflow:
        """Return Airflow, configured to reach S3 through the gate."""
        assert self.gate is not None
        direct = super().airflow
        extra = {"endpoint_url": self.gate.endpoint_url, "region_name": self.s3.region}
        parts = {
            part: {
                name: {**found, "extra": extra} if found["conn_type"] == "aws" else found
                for name, found in connections.items()
            }
            for part, connections in direct.connections.parts.items()
        }
        return replace(direct, connections=replace(direct.connections, parts=parts))

"""Airflow's supervisor of a task's process, between a test and an API server that may be unavailable."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import socket, socketpair
from typing import Any
from uuid import UUID

import psutil
from airflow.sdk.execution_time import comms
from airflow.sdk.execution_time.comms import CommsDecoder, _RequestFrame
from airflow.sdk.execution_time.supervisor import (
    ActivitySubprocess,
    InProcessTestSupervisor,
    log,
    set_supervisor_comms,
)

from tests.support.http_server import Handler, Server

UNSET = dict.fromkeys(("host", "schema", "login", "password", "port", "extra"))


class ApiServer:
    """An Airflow API server that has some connections; the server or its database may be unavailable."""

    def __init__(self) -> None:
        self.connections: dict[str, dict[str, Any]] = {}
        self.status: int | None = None
        self.has_database = True

    def answer(self, path: str) -> tuple[int, object]:
        """Return the status and the JSON with which Airflow answers a request of the supervisor."""
        if self.status is not None:
            return self.status, {"detail": "away"}
        if path.startswith("/task-instances/count"):
            return (200, 0) if self.has_database else (500, {"detail": "no database"})
        connection_id = path.removeprefix("/connections/")
        if self.has_database and connection_id in self.connections:
            return 200, {"conn_id": connection_id, **UNSET, **self.connections[connection_id]}
        return 404, {"detail": {"reason": "not_found"}}


@contextmanager
def supervised(api_server: ApiServer) -> Iterator[Server]:
    """Make this process a task whose supervisor uses that API server; yield the HTTP server behind it.

    Connections must contain no secrets: here the supervisor runs in the task's own process, and would mask a
    secret by sending a request to itself.
    """

    class Api(Handler):
        def do_GET(self) -> None:
            status, body = api_server.answer(self.path)
            self.respond(status, json.dumps(body).encode(), {"Content-Type": "application/json"})

    ours, theirs = socketpair()
    serving = Server(Api)
    # This client does not wait for an unavailable server.
    client = InProcessTestSupervisor._Client(base_url=serving.url, token="none")
    supervisor = ActivitySubprocess(
        id=UUID(int=0),
        pid=os.getpid(),
        stdin=theirs,
        process=psutil.Process(),  # type: ignore[arg-type]
        process_log=log,
        client=client,
    )
    thread = threading.Thread(target=_supervise, args=(supervisor, theirs), daemon=True)
    thread.start()
    try:
        with serving, set_supervisor_comms(CommsDecoder(socket=ours)):
            yield serving
    finally:
        ours.close()
        thread.join(timeout=10)
        theirs.close()
        client.close()


def _supervise(supervisor: ActivitySubprocess, requests: socket) -> None:
    handler = supervisor.handle_requests(log)
    next(handler)
    with suppress(OSError), requests.makefile("rb") as stream:
        while length := stream.read(4):
            frame = stream.read(int.from_bytes(length, "big"))
            # Use Airflow's own msgspec, which is not among our requirements.
            handler.send(comms.msgspec.msgpack.decode(frame, type=_RequestFrame))  # type: ignore[attr-defined]

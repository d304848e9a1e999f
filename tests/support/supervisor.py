"""Airflow's supervisor of a task's process, between a test and an API server that may be unavailable."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
def supervised(api_server: ApiServer) -> Iterator[ThreadingHTTPServer]:
    """Make this process a task whose supervisor uses that API server; yield the HTTP server behind it.

    Connections must contain no secrets: here the supervisor runs in the task's own process, and would mask a
    secret by a request to itself.
    """
    serving = _serve(api_server)
    ours, theirs = socketpair()
    client = InProcessTestSupervisor._Client(  # this client does not wait for an unavailable server
        base_url=f"http://127.0.0.1:{serving.server_port}", token="none"
    )
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
        with set_supervisor_comms(CommsDecoder(socket=ours)):
            yield serving
    finally:
        ours.close()
        thread.join(timeout=10)
        theirs.close()
        client.close()
        serving.shutdown()
        serving.server_close()


def _serve(api_server: ApiServer) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = api_server.answer(self.path)
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    serving = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True).start()
    return serving


def _supervise(supervisor: ActivitySubprocess, requests: socket) -> None:
    handler = supervisor.handle_requests(log)
    next(handler)
    with suppress(OSError), requests.makefile("rb") as stream:
        while length := stream.read(4):
            frame = stream.read(int.from_bytes(length, "big"))
            # Use Airflow's own msgspec, which is not among our requirements.
            handler.send(comms.msgspec.msgpack.decode(frame, type=_RequestFrame))  # type: ignore[attr-defined]

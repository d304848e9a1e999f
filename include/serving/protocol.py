"""Limits of a connection, which uvicorn leaves to a proxy: a silent one, and a head without an end.

uvicorn's httptools protocol waits forever for the first request and for the rest of a head, and keeps all of
the head in memory. Nothing of that reaches an application, and `airflow api-server` has no option for it. But
uvicorn looks up the protocol's class in its configuration for each new connection, so an application that
starts can replace it.
"""

from __future__ import annotations

import logging
import resource
import signal
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import Server

if TYPE_CHECKING:
    from asyncio import TimerHandle, Transport

log = logging.getLogger(__name__)

HEAD_SECONDS = 10.0
"""For the first request to begin, and for the head of each to be complete. Clients send it in one piece; some
browsers and load balancers connect some seconds ahead."""

MOST_HEAD_BYTES = 64 * 1024
"""Of request line and headers; h11, uvicorn's other parser, has the same limit."""

MOST_DESCRIPTORS = 65_536
"""Open files and connections of an API server. Many systems begin with 1,024."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection, closed when nobody is on its other end to ask anything."""

    _closing: TimerHandle | None = None
    _in_head = False
    _head_bytes = 0
    _message_complete = True

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Wait for the first request, for a while."""
        super().connection_made(transport)
        self._close_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._keep()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; refuse a head that has grown too large and has no end yet."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self.send_400_response(f"The head of a request has at most {MOST_HEAD_BYTES} bytes.")
        elif self._closing is None and self.cycle is not None and self.cycle.response_complete:
            self._close_soon()  # empty lines begin no request, but have ended uvicorn's own time-out

    def on_message_begin(self) -> None:
        """Wait for the head to be complete, for a while."""
        super().on_message_begin()
        self._in_head, self._head_bytes, self._message_complete = True, 0, False
        self._close_soon()

    def on_headers_complete(self) -> None:
        """Leave the connection to the request: what may happen from here on is limited in its body."""
        self._in_head = False
        self._keep()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that nothing of this request is on its way any more."""
        self._message_complete = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Wait for the rest of a body that was answered before it was complete, for a while."""
        super().on_response_complete()
        if not self._message_complete and not self.transport.is_closing():
            self._close_soon()

    def _close_soon(self) -> None:
        self._keep()
        self._closing = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _keep(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None


def limit_connections() -> bool:
    """Guard all further connections of this process' server; returns whether it is one that can be guarded.

    Call it before the server listens, in the lifespan of an application.
    """
    server = running_server()
    config: Any = getattr(server, "config", None)
    guarded = config is not None and issubclass(config.http_protocol_class, HttpToolsProtocol)
    if guarded:
        config.http_protocol_class = LimitedProtocol
    else:
        log.warning("Silent connections are not closed here: put a proxy in front of this server.")
    return guarded


def running_server() -> Server | None:
    """Return the uvicorn server of this process, None where something else serves.

    Nothing names it. But what SIGTERM leads to is one of its methods, be it uvicorn's own process or a worker
    of gunicorn.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, Server) else None


def raise_descriptor_limit() -> None:
    """Let this process have as many connections as the system allows it, up to MOST_DESCRIPTORS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MOST_DESCRIPTORS, hard)
    if soft not in {resource.RLIM_INFINITY, wanted} and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

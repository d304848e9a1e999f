"""Limits on connections, which uvicorn leaves to a proxy: idle time, and the size of a request's head.

uvicorn's httptools protocol waits forever for the first request and for the rest of a head, and keeps the
whole head in memory. An application is called only once the head is complete, and `airflow api-server` has no
options for these limits. But uvicorn looks up the protocol class in its configuration for each new
connection, so an application can replace the class at startup.
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
"""Limit on the time until the first request starts, and on the time that each head takes to arrive. Clients
send the head in one piece, but some browsers and load balancers connect a few seconds before they send a
request."""

MOST_HEAD_BYTES = 64 * 1024
"""Limit on request line and headers together; uvicorn's other parser, h11, has the same limit."""

MOST_DESCRIPTORS = 65_536
"""Limit on the open files and connections of an API server. The default of many systems is 1,024."""


class LimitedProtocol(HttpToolsProtocol):
    """One connection, which is closed if its client does not send a complete head in time."""

    _closing: TimerHandle | None = None
    _is_in_head = False
    _head_bytes = 0
    _is_message_complete = True

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the timer for the first request."""
        super().connection_made(transport)
        self._close_soon()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timer."""
        self._cancel_closing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse the data, and refuse an unfinished head that has grown too large."""
        super().data_received(data)
        if self.transport.is_closing():
            return
        if self._is_in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD_BYTES:
                self.send_400_response(f"The head of a request must not exceed {MOST_HEAD_BYTES} bytes.")
        elif self._closing is None and self.cycle is not None and self.cycle.response_complete:
            self._close_soon()  # empty lines start no request, but cancel uvicorn's own timeout

    def on_message_begin(self) -> None:
        """Start the timer for the head."""
        super().on_message_begin()
        self._is_in_head, self._head_bytes, self._is_message_complete = True, 0, False
        self._close_soon()

    def on_headers_complete(self) -> None:
        """Cancel the timer: the body has separate limits."""
        self._is_in_head = False
        self._cancel_closing()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Record that the request has arrived completely."""
        self._is_message_complete = True
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Start the timer for the rest of the body if the response was sent before the body had arrived."""
        super().on_response_complete()
        if not self._is_message_complete and not self.transport.is_closing():
            self._close_soon()

    def _close_soon(self) -> None:
        self._cancel_closing()
        self._closing = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _cancel_closing(self) -> None:
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None


def limit_connections() -> None:
    """Apply the limits to all new connections of this process's server, if the server supports limits.

    Call this before the server listens, in the lifespan of an application.
    """
    server = find_running_server()
    config: Any = getattr(server, "config", None)
    if config is not None and issubclass(config.http_protocol_class, HttpToolsProtocol):
        config.http_protocol_class = LimitedProtocol
    else:
        log.warning("Idle connections are not closed: put a proxy in front of this server.")


def find_running_server() -> Server | None:
    """Return the uvicorn server of this process; None if the process runs another server.

    No variable refers to the server. It is found through the SIGTERM handler, which is one of its methods,
    both in uvicorn's own process and in a gunicorn worker.
    """
    server = getattr(signal.getsignal(signal.SIGTERM), "__self__", None)
    return server if isinstance(server, Server) else None


def raise_descriptor_limit() -> None:
    """Allow this process as many connections as the system permits, up to MOST_DESCRIPTORS."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(MOST_DESCRIPTORS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

"""Limits on the size of a request's headers, query and body, and on the time that the body takes to arrive.

FastAPI reads the body before it authenticates the sender, so bodies must be refused here, while they arrive.
Starlette's RequestBodyLimitMiddleware has no time limit and answers in plain text.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
from starlette.datastructures import Headers

from include.limits import UPLOAD_BODY, WEIGHTS_BYTES, WEIGHTS_SECONDS, in_words
from include.serving.problem import build_problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_QUERY_BYTES = 8 * 1024
"""Limit on a query string, equal to nginx's limit on a request line. Our longest query strings list the jobs
to compare."""

MOST_HEADER_BYTES = 32 * 1024
"""Limit on all headers together. Airflow's session cookie and the headers of proxies take only a few kB."""


@dataclass(frozen=True)
class BodyLimit:
    """Limits on a body."""

    most_bytes: int
    """Maximum size of the body."""
    seconds: float
    """Time within which the complete body must arrive."""


SMALL = BodyLimit(64 * 1024, 10.0)
"""For logins, and for our routes, whose largest body is usually a completion callback of a few kB."""

WEIGHTS = BodyLimit(WEIGHTS_BYTES, WEIGHTS_SECONDS)
"""For files of pretrained weights."""

LISTS = BodyLimit(UPLOAD_BODY, 60.0)
"""For the file lists that start dataset uploads."""


class RequestLimits:
    """Middleware that refuses requests that exceed the limit for their path.

    `limits` maps path prefixes to limits; the longest matching prefix counts, and `default` applies if none
    matches. With `limits_heads`, long query strings and large headers are also refused.
    """

    def __init__(
        self,
        app: ASGIApp,
        default: BodyLimit = SMALL,
        limits: Mapping[str, BodyLimit] | None = None,
        *,
        limits_heads: bool = True,
    ) -> None:
        self._app, self._default, self._limits_heads = app, default, limits_heads
        self._limits = sorted((limits or {}).items(), key=lambda item: -len(item[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle HTTP requests, and pass everything else to the application."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._find_limit(scope)
        refusal = _refuse_head(scope) if self._limits_heads else None
        if refusal is None and _read_declared_size(scope) > limit.most_bytes:
            refusal = _refuse_large(limit)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await _TimedBody(limit, receive, send).pass_to(self._app, scope)

    def _find_limit(self, scope: Scope) -> BodyLimit:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        return next((limit for prefix, limit in self._limits if path.startswith(prefix)), self._default)


class _TimedBody:
    """The body of one request, counted and timed while the application reads it."""

    def __init__(self, limit: BodyLimit, receive: Receive, send: Send) -> None:
        self._limit, self._receive_next, self._send_next = limit, receive, send
        self._deadline = anyio.current_time() + limit.seconds
        self._bytes = 0
        self._is_complete = False
        self._has_answered = False
        self._refusal: Response | None = None

    async def pass_to(self, app: ASGIApp, scope: Scope) -> None:
        """Let the application respond, or send the refusal if the body is refused in the meantime."""
        try:
            await app(scope, self._receive, self._send)
        except Exception:  # an application may raise anything when the client disconnects
            if self._refusal is None:
                raise
        if self._refusal is not None and not self._has_answered:
            await self._refusal(scope, self._receive_next, self._send_next)

    async def _receive(self) -> Message:
        """Receive the next message; if the body is refused, tell the application that the client has left."""
        if self._is_complete:  # the application is waiting for the client to disconnect
            return await self._receive_next()
        message = None if self._refusal else await self._receive_in_time()
        if message is None:
            return {"type": "http.disconnect"}
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limit.most_bytes:
            self._refusal = _refuse_large(self._limit)
            return {"type": "http.disconnect"}
        self._is_complete = not message.get("more_body", False)
        return message

    async def _receive_in_time(self) -> Message | None:
        try:
            with anyio.fail_after(self._deadline - anyio.current_time()):
                return await self._receive_next()
        except TimeoutError:
            self._refusal = _refuse_slow(self._limit)
            return None

    async def _send(self, message: Message) -> None:
        """Send the application's response, unless the body was refused before the response began."""
        if self._refusal is None or self._has_answered:
            self._has_answered = True
            await self._send_next(message)


def _read_declared_size(scope: Scope) -> int:
    declared = Headers(scope=scope).get("content-length", "")
    return int(declared) if declared.isdecimal() else 0


def _refuse_head(scope: Scope) -> Response | None:
    if len(scope["query_string"]) > MOST_QUERY_BYTES:
        return build_problem(
            HTTPStatus.REQUEST_URI_TOO_LONG,
            f"The query string has {len(scope['query_string'])} bytes, but the limit is {MOST_QUERY_BYTES}; "
            "send a shorter one.",
        )
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > MOST_HEADER_BYTES:
        return build_problem(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"The headers have {size} bytes, and the limit is {MOST_HEADER_BYTES}: delete this site's "
            "cookies and log in again.",
        )
    return None


def _refuse_large(limit: BodyLimit) -> Response:
    return build_problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is larger than the limit of {in_words(limit.most_bytes)}.",
    )


def _refuse_slow(limit: BodyLimit) -> Response:
    """Return the response to a request whose body arrives too slowly.

    No other response is in transit, so closing the connection truncates nothing.
    """
    return build_problem(
        HTTPStatus.REQUEST_TIMEOUT,
        f"The body did not arrive within {limit.seconds:.0f} seconds: send the request again.",
        {"Connection": "close"},
    )

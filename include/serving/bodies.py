"""Limits of a request: how large its parts may be, and how long its body may take to arrive.

FastAPI reads a body before it asks who sent it. So whatever is to be refused must be refused here, while the
body arrives. Starlette's RequestBodyLimitMiddleware knows no time limit and answers in plain text.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

import anyio
from starlette.datastructures import Headers

from include.limits import WEIGHTS_BYTES, WEIGHTS_SECONDS
from include.serving.problem import problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

MOST_QUERY_BYTES = 8 * 1024
"""Of a query string, as nginx and most browsers' vendors advise; the longest legitimate one compares jobs."""

MOST_HEADER_BYTES = 32 * 1024
"""Of all headers together: Airflow's session cookie and what proxies add are a few kB."""


@dataclass(frozen=True)
class BodyLimit:
    """The most bytes of a body, and the seconds in which all of it must have arrived."""

    most_bytes: int
    seconds: float

    def __str__(self) -> str:
        """Name the size as a person would."""
        kib = self.most_bytes // 1024
        return f"{kib // 1024} MiB" if kib >= 1024 else f"{kib} KiB"


SMALL = BodyLimit(64 * 1024, 10.0)
"""For our routes, whose largest body is a completion callback of some kB, and for logins."""


WEIGHTS = BodyLimit(WEIGHTS_BYTES, WEIGHTS_SECONDS)
"""For files of pretrained weights."""


class RequestLimits:
    """Wrap an application and refuse requests beyond the limit of their path.

    `limits` maps what a path begins with to its limit; the longest match counts, and `default` where none
    does. An application refuses long query strings and headers too if it `limits_heads`.
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
        self._limits = sorted((limits or {}).items(), key=lambda each: -len(each[0]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass on what is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope)
        refusal = _refuse_head(scope) if self._limits_heads else None
        if refusal is None and _announced_size(scope) > limit.most_bytes:
            refusal = _too_large(limit)
        if refusal is not None:
            await refusal(scope, receive, send)
            return
        await _Upload(limit, receive, send).pass_to(self._app, scope)

    def _limit_of(self, scope: Scope) -> BodyLimit:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        return next((limit for prefix, limit in self._limits if path.startswith(prefix)), self._default)


class _Upload:
    """The body of one request, counted and timed while the application reads it."""

    def __init__(self, limit: BodyLimit, receive: Receive, send: Send) -> None:
        self._limit, self._receive_next, self._send_next = limit, receive, send
        self._deadline = anyio.current_time() + limit.seconds
        self._bytes = 0
        self._complete = False
        self._answered = False
        self._refusal: Response | None = None

    async def pass_to(self, app: ASGIApp, scope: Scope) -> None:
        """Let the application answer; where the body is refused meanwhile, answer with that."""
        try:
            await app(scope, self._receive, self._send)
        except Exception:  # whatever it makes of a client that has left
            if self._refusal is None:
                raise
        if self._refusal is not None and not self._answered:
            await self._refusal(scope, self._receive_next, self._send_next)

    async def _receive(self) -> Message:
        """Receive what comes next. To the application, a body that is refused is a client that has left."""
        if self._complete:  # what is waited for now is that the client leaves
            return await self._receive_next()
        message = None if self._refusal else await self._receive_in_time()
        if message is None:
            return {"type": "http.disconnect"}
        self._bytes += len(message.get("body", b""))
        if self._bytes > self._limit.most_bytes:
            self._refusal = _too_large(self._limit)
            return {"type": "http.disconnect"}
        self._complete = not message.get("more_body", False)
        return message

    async def _receive_in_time(self) -> Message | None:
        try:
            with anyio.fail_after(self._deadline - anyio.current_time()):
                return await self._receive_next()
        except TimeoutError:
            self._refusal = _too_slow(self._limit)
            return None

    async def _send(self, message: Message) -> None:
        """Send what the application answers, unless it answers that the client has left."""
        if self._refusal is None or self._answered:
            self._answered = True
            await self._send_next(message)


def _announced_size(scope: Scope) -> int:
    announced = Headers(scope=scope).get("content-length", "")
    return int(announced) if announced.isdecimal() else 0


def _refuse_head(scope: Scope) -> Response | None:
    if len(scope["query_string"]) > MOST_QUERY_BYTES:
        return problem(
            HTTPStatus.REQUEST_URI_TOO_LONG,
            f"The query string has {len(scope['query_string'])} bytes, and at most {MOST_QUERY_BYTES} are "
            "taken: ask for less at a time.",
        )
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > MOST_HEADER_BYTES:
        return problem(
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            f"The headers have {size} bytes, and at most {MOST_HEADER_BYTES} are taken: delete the cookies "
            "of this site, and log in again.",
        )
    return None


def _too_large(limit: BodyLimit) -> Response:
    return problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"The body is larger than the {limit} that are taken here.",
    )


def _too_slow(limit: BodyLimit) -> Response:
    """Nothing is on its way any more, so closing the connection cuts off no answer."""
    return problem(
        HTTPStatus.REQUEST_TIMEOUT,
        f"The body did not arrive within {limit.seconds:.0f} seconds: send the request again.",
        {"Connection": "close"},
    )

"""Security headers, on every answer of an application: results, errors, redirects and streams."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.datastructures import MutableHeaders

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOR_DATA = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""For answers that no browser should show as a page."""

_CACHE_CONTROL = "Cache-Control"
_NOT_STORED = "no-store"
_OF_ONE_USER = "private"


class SecurityHeaders:
    """Wrap an application and put `headers` on each of its answers.

    An answer is never cached unless its route says that its user's own browser may (Cache-Control: private):
    what one user may see must not reach the next one through a shared cache.
    """

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        self._app, self._headers = app, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass on what is none."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(self._headers)
                if not headers.get(_CACHE_CONTROL, "").startswith(_OF_ONE_USER):
                    headers[_CACHE_CONTROL] = _NOT_STORED
            await send(message)

        await self._app(scope, receive, send_with_headers)

"""The FastAPI class of this project's applications in Airflow's API server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request

from include.api.access import find_authentication_error, require_login
from include.api.problems import build_http_problem, install_problem_handlers
from include.serving.bodies import RequestLimits
from include.serving.headers import SecurityHeaders
from include.serving.protocol import limit_connections, raise_descriptor_limit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from include.serving.bodies import BodyLimit

_READING = {"GET", "HEAD", "OPTIONS"}


class GuardedApp(FastAPI):
    """An application that requires a login for all routes and adds `headers` to all responses.

    FastAPI's own documentation pages are disabled because they would be public. FastAPI's redirects from
    /path/ to /path are disabled because they redirect to the host that the request names.
    `limits` maps the prefixes of paths that accept larger bodies to their limits.
    """

    def __init__(
        self, headers: Mapping[str, str], limits: Mapping[str, BodyLimit] | None = None, **options: Any
    ) -> None:
        super().__init__(
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            redirect_slashes=False,
            dependencies=[require_login()],
            lifespan=_guard_server,
            **options,
        )
        self._headers, self._limits = headers, limits
        install_problem_handlers(self)

    def build_middleware_stack(self) -> ASGIApp:
        """Wrap the guards around everything else, including the handler of unexpected errors."""
        guarded = RequestLimits(_LoginBeforeBody(super().build_middleware_stack()), limits=self._limits)
        return SecurityHeaders(guarded, self._headers)


class _LoginBeforeBody:
    """Refuses requests without a login before their body is read; FastAPI would read the body first."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in _READING:
            refusal = await find_authentication_error(Request(scope))
            if refusal is not None:
                await build_http_problem(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


@asynccontextmanager
async def _guard_server(_: FastAPI) -> AsyncIterator[None]:
    """Limit the connections of this process, if its server supports limits."""
    raise_descriptor_limit()
    limit_connections()
    yield

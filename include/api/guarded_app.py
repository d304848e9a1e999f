"""The FastAPI class of our applications in Airflow's API server."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI, Request

from include.api.access import authentication_error, logged_in
from include.api.problems import answer_with_problems, http_problem
from include.serving.bodies import RequestLimits
from include.serving.headers import SecurityHeaders
from include.serving.protocol import limit_connections, raise_descriptor_limit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from starlette.types import ASGIApp, Receive, Scope, Send

    from include.serving.bodies import BodyLimit

_READING = {"GET", "HEAD", "OPTIONS"}


class GuardedApp(FastAPI):
    """An application whose answers all have `headers`, and all of whose routes need a login.

    FastAPI's own pages are off, for they would be open to anyone. So are its redirects from /path/ to /path:
    they lead to whatever host the request names. limits holds, by what their paths
    begin with, for bodies that may be larger than others.
    """

    def __init__(
        self, headers: Mapping[str, str], limits: Mapping[str, BodyLimit] | None = None, **options: Any
    ) -> None:
        super().__init__(
            docs_url=None,
            redoc_url=None,
            openapi_url=None,
            redirect_slashes=False,
            dependencies=[logged_in()],
            lifespan=_guard_server,
            **options,
        )
        self._headers, self._limits = headers, limits
        answer_with_problems(self)

    def build_middleware_stack(self) -> ASGIApp:
        """Put the guards around all else, also around the handler of unexpected errors."""
        guarded = RequestLimits(_LoginBeforeBody(super().build_middleware_stack()), limits=self._limits)
        return SecurityHeaders(guarded, self._headers)


class _LoginBeforeBody:
    """Refuses whoever is not logged in before a byte of a body is read; FastAPI reads it before it asks."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in _READING:
            refusal = await authentication_error(Request(scope))
            if refusal is not None:
                await http_problem(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


@asynccontextmanager
async def _guard_server(_: FastAPI) -> AsyncIterator[None]:
    """Guard the connections of the process that serves the application, as far as it can be guarded."""
    raise_descriptor_limit()
    limit_connections()
    yield

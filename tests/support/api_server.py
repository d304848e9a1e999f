"""The API on a separate HTTP server that is open to everybody, for tests that are not about permissions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal

import uvicorn
from fastapi.routing import APIRoute

from include.api.app import create_app
from tests.support.waiting import until

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp, Receive, Scope, Send


_OF_GUARDS = ("airflow.", "include.api.access")


def open_app(app: FastAPI | None = None) -> ASGIApp:
    """Return the app without its permission checks, which would query Airflow's database about the Dag."""
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from airflow.api_fastapi.core_api.security import USER_INJECTED_BY_TRUSTED_MIDDLEWARE

    app, user = app or create_app(), SimpleAuthManagerUser(username="ada", role="admin")
    for route in app.routes:
        for guard in route.dependencies if isinstance(route, APIRoute) else ():
            if guard.dependency and guard.dependency.__module__.startswith(_OF_GUARDS):
                app.dependency_overrides[guard.dependency] = lambda: None

    async def logged_in(scope: Scope, receive: Receive, send: Send) -> None:
        trusted = {"user": user, "user_authenticated_via": USER_INJECTED_BY_TRUSTED_MIDDLEWARE}
        scope.setdefault("state", {}).update(trusted)
        await app(scope, receive, send)

    return logged_in


@contextmanager
def serving(app: ASGIApp, protocol: type[asyncio.Protocol] | Literal["auto"] = "auto") -> Iterator[str]:
    """Serve the application in this process; yield its URL."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="warning", http=protocol, timeout_keep_alive=120
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started, "the server", pause=0.02, unless=lambda: not thread.is_alive())
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(30)

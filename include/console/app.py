"""The application that Airflow's API server mounts at PREFIX: six pages and the files they are made of."""

from __future__ import annotations

from html import escape
from http import HTTPStatus
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from fastapi import Request, Response  # noqa: TC002 - FastAPI reads annotations at run time
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException

from include.api.addresses import airflow_url
from include.api.guarded_app import GuardedApp
from include.console import PREFIX
from include.console.files import HERE, MEDIA_TYPES, document, served_files, version_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["PAGES", "PREFIX", "create_app"]

PAGES = {
    "jobs": "Trainings",
    "job": "Training",
    "run": "Training of a run",
    "start": "Start a training",
    "compare": "Compare trainings",
    "models": "Models",
}
"""Each page and its title until it knows better. They are at one depth: what they link to is relative."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'self'; base-uri 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_ALWAYS_ASK = "private, no-cache"
_NEVER_CHANGES = "private, max-age=31536000, immutable"


def create_app() -> GuardedApp:
    """Make the application; nobody gets a page or a file who is not logged in."""
    app = GuardedApp(_HEADERS, title="Trainings")
    app.middleware("http")(_answer)
    app.get("/")(_first_page)
    for page in PAGES:
        app.get(f"/{page}")(_page)
    app.get("/static/{version}/{name:path}")(_file)
    return app


async def _answer(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Answer whoever is not logged in and came to read with a page that leads to the login, and back here."""
    answered = await answer(request)
    if answered.status_code == HTTPStatus.UNAUTHORIZED and "text/html" in request.headers.get("accept", ""):
        page = Template((HERE / "signed_out.html").read_text(encoding="utf-8"))
        text = page.substitute(login=escape(_login_address(request)))
        answered = HTMLResponse(text, answered.status_code, headers={"WWW-Authenticate": "Bearer"})
    return answered


def _login_address(request: Request) -> str:
    """Of Airflow's login, which leads to the page that was asked for."""
    page = f"{airflow_url()}{PREFIX}/{request.url.path.rpartition('/')[2]}"
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{airflow_url()}/api/v2/auth/login?{urlencode({'next': page + query})}"


def _first_page() -> Response:
    return RedirectResponse("jobs")


def _page(request: Request) -> Response:
    """One page. It names its files by their version: the browser asks for them again after an update only."""
    files = served_files()
    page = request.url.path.rpartition("/")[2]
    version = version_of(files)
    return _cached(
        request,
        lambda: document(page, PAGES[page], files, version),
        media_type="text/html",
        etag=f'"{version}-{page}"',
        caching=_ALWAYS_ASK,
    )


def _file(request: Request, version: str, name: str) -> Response:
    """One file. Any version is answered with the one that is here; only under its own name it may be kept."""
    files = served_files()
    if name not in files:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"{name} is not a file of the console")
    current = version_of(files)
    return _cached(
        request,
        files[name].read_bytes,
        media_type=MEDIA_TYPES[files[name].suffix],
        etag=f'"{current}"',
        caching=_NEVER_CHANGES if version == current else _ALWAYS_ASK,
    )


def _cached(
    request: Request, content: Callable[[], str | bytes], *, media_type: str, etag: str, caching: str
) -> Response:
    headers = {"Cache-Control": caching, "ETag": etag}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content(), media_type=media_type, headers=headers)

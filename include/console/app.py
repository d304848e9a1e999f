"""The application that Airflow's API server mounts at PREFIX: nine pages and their files."""

from __future__ import annotations

from functools import lru_cache
from hashlib import sha256
from html import escape
from http import HTTPStatus
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from fastapi import Request, Response  # noqa: TC002 - FastAPI reads annotations at run time
from fastapi.responses import HTMLResponse, RedirectResponse
from starlette.exceptions import HTTPException

from include.api.addresses import read_airflow_url
from include.api.guarded_app import GuardedApp
from include.api.uploads import find_upload_origin
from include.console import PREFIX
from include.deployment.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

PAGES = {
    "jobs": "Training runs",
    "job": "Training run",
    "run": "Training run",
    "start": "Start a training run",
    "compare": "Compare training runs",
    "models": "Models",
    "datasets": "Datasets",
    "dataset": "Dataset",
    "usage": "GPU hours",
}
"""Pages with their initial titles. All pages must have the same path depth: their links are relative."""

_HERE = Path(__file__).parent
STATIC = _HERE / "static"
MEDIA_TYPES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
"""Types of files that are served. Other files in static/, such as third-party licences, are not served."""

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src {connected}; "
    "form-action 'self'; frame-ancestors 'self'; base-uri 'none'; require-trusted-types-for 'script'; "
    "trusted-types 'none'"
)
_UPLOADING = {"datasets", "dataset"}
"""Pages that send files to S3; all other pages connect only to this server."""

_HEADERS = {
    "Content-Security-Policy": _POLICY.format(connected="'self'"),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_REVALIDATE = "private, no-cache"
_IMMUTABLE = "private, max-age=31536000, immutable"


def create_app() -> GuardedApp:
    """Create the application; all of its pages and files require a login."""
    app = GuardedApp(_HEADERS, title="Training runs")
    app.middleware("http")(_offer_login)
    app.get("/")(_redirect_to_jobs)
    for page in PAGES:
        app.get(f"/{page}")(_serve_page)
    app.get("/static/{version}/{name:path}")(_serve_file)
    return app


async def _offer_login(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Send a browser without a login to Airflow's login page, which redirects back to the requested page."""
    response = await call_next(request)
    if response.status_code == HTTPStatus.UNAUTHORIZED and "text/html" in request.headers.get("accept", ""):
        page = Template((_HERE / "signed_out.html").read_text(encoding="utf-8"))
        text = page.substitute(login=escape(_build_login_url(request)))
        response = HTMLResponse(text, response.status_code, headers={"WWW-Authenticate": "Bearer"})
    return response


def _build_login_url(request: Request) -> str:
    """Return the URL of Airflow's login, which then redirects to the requested page."""
    page = f"{read_airflow_url()}{PREFIX}/{request.url.path.rpartition('/')[2]}"
    query = f"?{request.url.query}" if request.url.query else ""
    return f"{read_airflow_url()}/api/v2/auth/login?{urlencode({'next': page + query})}"


def _redirect_to_jobs() -> Response:
    return RedirectResponse("jobs")


def _serve_page(request: Request) -> Response:
    """Serve a page.

    The URLs of the page's files contain a version, so that browsers reload the files only after updates.
    """
    files = list_served_files()
    page = request.url.path.rpartition("/")[2]
    version = compute_version(files)
    response = _respond(
        request,
        lambda: _render_page(page, files, version),
        media_type="text/html",
        etag=f'"{version}-{page}"',
        caching=_REVALIDATE,
    )
    if page in _UPLOADING and (origin := find_upload_origin(Settings.from_environment())):
        response.headers["Content-Security-Policy"] = _POLICY.format(connected=f"'self' {origin}")
    return response


def _serve_file(request: Request, version: str, name: str) -> Response:
    """Serve the current file, for any version in the URL; only the current version may be cached forever."""
    files = list_served_files()
    if name not in files:
        raise HTTPException(HTTPStatus.NOT_FOUND, f"{name} is not a file of the console")
    current = compute_version(files)
    return _respond(
        request,
        files[name].read_bytes,
        media_type=MEDIA_TYPES[files[name].suffix],
        etag=f'"{current}"',
        caching=_IMMUTABLE if version == current else _REVALIDATE,
    )


def _respond(
    request: Request, content: Callable[[], str | bytes], *, media_type: str, etag: str, caching: str
) -> Response:
    headers = {"Cache-Control": caching, "ETag": etag}
    if etag in request.headers.get("if-none-match", ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return Response(content(), media_type=media_type, headers=headers)


def list_served_files() -> dict[str, Path]:
    """Return all served files, by their paths below static/."""
    found = (path for path in sorted(STATIC.rglob("*")) if path.suffix in MEDIA_TYPES)
    return {path.relative_to(STATIC).as_posix(): path for path in found}


def compute_version(files: dict[str, Path]) -> str:
    """Return a version string, which changes when the content of any file changes."""
    states = ((name, path.stat()) for name, path in files.items())
    return _compute_digest(tuple((name, state.st_mtime_ns, state.st_size) for name, state in states))


def _render_page(page: str, files: dict[str, Path], version: str) -> str:
    """Return the HTML of one page. It lists all shared modules, so that browsers fetch them in parallel."""
    static = f"static/{version}"
    styles = [f'<link rel="stylesheet" href="{static}/{name}">' for name in files if name.endswith(".css")]
    modules = [
        f'<link rel="modulepreload" href="{static}/{name}">'
        for name in files
        if name.endswith(".js") and name != "theme.js" and not name.startswith("pages/")
    ]
    return Template((_HERE / "page.html").read_text(encoding="utf-8")).substitute(
        title=PAGES[page], page=page, static=static, styles="\n".join(styles), modules="\n".join(modules)
    )


@lru_cache(maxsize=4)
def _compute_digest(stamp: tuple[tuple[str, int, int], ...]) -> str:
    digest = sha256()
    for name, _, _ in stamp:
        digest.update(name.encode() + b"\0" + (STATIC / name).read_bytes())
    return digest.hexdigest()[:16]

"""Requests that change something come from pages of this very origin, or from no page at all."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Header, Request  # noqa: TC002 - FastAPI reads annotations at run time

from include.api.addresses import airflow_url
from include.api.problems import Refused

if TYPE_CHECKING:
    from fastapi.params import Depends as Guard

_OWN = {"same-origin", "none"}
"""`none`: by the user's own hand."""

_Told = Annotated[str | None, Header(include_in_schema=False)]


def from_own_pages() -> Guard:
    """Refuse (403) what a browser sends from a page of another origin, with the user's cookie.

    Airflow's cookie is SameSite=lax, which keeps it from other sites, but not from another port or another
    name of the same domain. Browsers say by themselves where a request comes from, and no page can lie:
    in Sec-Fetch-Site, and where the connection is not encrypted in Origin only. A program says neither.
    """
    guard: Guard = Depends(_require_own_page)
    return guard


def _require_own_page(request: Request, sec_fetch_site: _Told = None, origin: _Told = None) -> None:
    if sec_fetch_site is not None:
        own = sec_fetch_site in _OWN
    else:
        own = origin is None or _host(origin) in {request.url.netloc, _host(airflow_url())}
    if not own:
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "A page of another origin sent this request: use this server's own, or a program with a token",
        )


def _host(address: str) -> str:
    """Name and port. The scheme is not compared: behind a proxy that ends TLS ours is another one."""
    return address.partition("://")[2].partition("/")[0]

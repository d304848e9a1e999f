"""Requests that change something come from pages of this very origin, or from no page at all."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from fastapi import Depends, Header

from include.api.problems import Refused

if TYPE_CHECKING:
    from fastapi.params import Depends as Guard

_OWN = {None, "same-origin", "none"}
"""None: no browser. `none`: by the user's own hand."""


def from_own_pages() -> Guard:
    """Refuse (403) what a browser sends from a page of another origin, with the user's cookie.

    Airflow's cookie is SameSite=lax, which keeps it from other sites, but not from another port or another
    name of the same domain. Browsers say by themselves where a request comes from, and no page can lie.
    """
    guard: Guard = Depends(_require_own_page)
    return guard


def _require_own_page(sec_fetch_site: Annotated[str | None, Header(include_in_schema=False)] = None) -> None:
    if sec_fetch_site not in _OWN:
        raise Refused(
            HTTPStatus.FORBIDDEN,
            "A page of another origin sent this request: use this server's own, or a program with a token",
        )

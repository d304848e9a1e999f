"""Guards for routes that change something: they check the user's rights and the origin of the request."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import Header, Request  # noqa: TC002 - FastAPI reads annotations at run time
from fastapi.params import Depends as Guard

from include.api.access import require_can_start
from include.api.addresses import read_airflow_url
from include.api.problems import ProblemError

_OWN = {"same-origin", "none"}
"""`none`: the user typed the address or opened a bookmark, so no page sent the request."""

_OptionalHeader = Annotated[str | None, Header(include_in_schema=False)]


def require_may_change(dag_id: str) -> list[Guard]:
    """Refuse (403) users who may not trigger runs of that Dag, and requests from pages of another origin."""
    return [require_can_start(dag_id), Guard(_require_own_page)]


def _require_own_page(
    request: Request, sec_fetch_site: _OptionalHeader = None, origin: _OptionalHeader = None
) -> None:
    """Refuse (403) requests that a browser sends, with the user's cookie, from a page of another origin.

    Airflow's cookie is SameSite=lax. This protects it from other sites, but not from another port or another
    host name of the same domain. Browsers state the origin of a request in headers that no page can forge:
    Sec-Fetch-Site or, over an unencrypted connection, only Origin. Other clients send neither header.
    """
    if sec_fetch_site is not None:
        is_own = sec_fetch_site in _OWN
    else:
        is_own = origin is None or _extract_host(origin) in {
            request.url.netloc,
            _extract_host(read_airflow_url()),
        }
    if not is_own:
        raise ProblemError(
            HTTPStatus.FORBIDDEN,
            "This request came from a page of another origin: use this server's own pages, or a program "
            "with a token",
        )


def _extract_host(address: str) -> str:
    """Return the host and port; the scheme is omitted because a proxy that terminates TLS changes it."""
    return address.partition("://")[2].partition("/")[0]

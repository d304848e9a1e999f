"""Guards that decide who may call a route.

Airflow does not protect the routes of plugins: without one of these guards a route is public.

A route that shows the results of a Dag is open to users who may see the Dag's runs. A route that changes
something is open to users who may start runs of the Dag. Airflow's auth manager checks these rights, using
the same logins, roles and Dag permissions as for the rest of Airflow.
"""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import TYPE_CHECKING

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import (  # noqa: TC002 - FastAPI reads annotations at run time
    GetUserDep,
    bearer_scheme,
    get_user,
    requires_access_dag,
    requires_authenticated,
)
from fastapi import Request  # noqa: TC002 - FastAPI reads annotations at run time
from fastapi.params import Depends as Guard
from sqlalchemy import exc
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser

log = logging.getLogger(__name__)

AIRFLOW_DATABASE_ERRORS = (exc.OperationalError, exc.InterfaceError, exc.TimeoutError)
"""The errors of every guard while Airflow's own database is unavailable, which records revoked logins."""


def require_login() -> Guard:
    """Refuse requests without a login to Airflow: 401, or 403 for a token with an invalid signature."""
    return Guard(requires_authenticated())


def require_can_see_runs(dag_id: str) -> Guard:
    """Refuse (403) users who may not see the runs of that Dag."""
    return Guard(check_access("GET", dag_id))


def require_can_start(dag_id: str) -> Guard:
    """Refuse (403) users who may not trigger runs of that Dag."""
    return Guard(check_access("POST", dag_id))


def check_access(method: ResourceMethod, dag_id: str) -> Callable[..., None]:
    """Return a check that raises HTTPException (403) unless the user may apply `method` to runs of that Dag.

    Airflow's auth manager decides. The check is called with the request and the user.
    For a token with an unknown role, SimpleAuthManager raises KeyError; the check then refuses the user. Such
    a token was signed before the role was renamed, or by another program that has the same key.
    """
    ask: Callable[[Request, BaseUser], None] = requires_access_dag(method, DagAccessEntity.RUN, dag_id)

    def check(request: Request, user: GetUserDep) -> None:
        try:
            ask(request, user)
        except KeyError as error:
            log.warning("The role %s of user %r is unknown.", error, user.get_name())
            raise HTTPException(
                HTTPStatus.FORBIDDEN, "The role in this login does not exist in Airflow: log in again"
            ) from None

    return check


async def find_authentication_error(request: Request) -> HTTPException | None:
    """Return why the request is not authenticated (401, or 403 for an invalid signature); None if it is.

    Returns a 503 if Airflow's database is unavailable: it is then unknown whether the login was revoked.
    Call this for errors that occur before any guard runs: an unknown route, a wrong method, an invalid body.
    """
    try:
        await get_user(request, bearer_credentials=await bearer_scheme(request))
    except HTTPException as refusal:
        return refusal
    except AIRFLOW_DATABASE_ERRORS as error:
        return explain_airflow_outage(error)
    return None


def explain_airflow_outage(error: Exception) -> HTTPException:
    """Return the answer (503) to a request during an outage of Airflow's database, and log the error."""
    log.warning("Airflow's database does not respond: %s", error)
    return HTTPException(
        HTTPStatus.SERVICE_UNAVAILABLE,
        "Airflow's database does not respond: try again later",
        {"Retry-After": "10"},
    )

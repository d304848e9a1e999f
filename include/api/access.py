"""Who may call a route. Airflow does not look after what a plugin serves: without these it is open to all.

A route here shows what a Dag has made, so whoever may see the runs of that Dag may call it; and one that
changes a job is for whoever may start such a run. Airflow's auth manager decides, by the same login, roles
and Dag permissions as everywhere in Airflow.
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
from fastapi import Depends, Request  # noqa: TC002 - FastAPI reads annotations at run time
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
    from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
    from fastapi.params import Depends as Guard

log = logging.getLogger(__name__)


def logged_in() -> Guard:
    """Refuse (401) whoever is not logged in to Airflow."""
    guard: Guard = Depends(requires_authenticated())
    return guard


def may_see_runs_of(dag_id: str) -> Guard:
    """Refuse (403) whoever may not see the runs of that Dag."""
    guard: Guard = Depends(_check_access("GET", dag_id))
    return guard


def may_start(dag_id: str) -> Guard:
    """Refuse (403) whoever may not trigger runs of that Dag."""
    guard: Guard = Depends(check_can_start(dag_id))
    return guard


def check_can_start(dag_id: str) -> Callable[..., None]:
    """Return the check itself, called with request and user; it raises HTTPException (403) for no."""
    return _check_access("POST", dag_id)


def _check_access(method: ResourceMethod, dag_id: str) -> Callable[..., None]:
    """Ask Airflow's auth manager.

    SimpleAuthManager raises KeyError for a role that it does not know: of a token that it signed before the
    role was renamed, or one that another program with the same key signed.
    """
    ask: Callable[[Request, BaseUser], None] = requires_access_dag(method, DagAccessEntity.RUN, dag_id)

    def check(request: Request, user: GetUserDep) -> None:
        try:
            ask(request, user)
        except KeyError as error:
            log.warning("The role %s of user %r is unknown.", error, user.get_name())
            raise HTTPException(
                HTTPStatus.FORBIDDEN, "Airflow does not know the role of this login: log in again"
            ) from None

    return check


async def authentication_error(request: Request) -> HTTPException | None:
    """Return what refuses this request (401, or 403 for a forged token); None for a user.

    For errors that come before any guard is asked: no such route, another method, a body that is no JSON.
    """
    try:
        await get_user(request, bearer_credentials=await bearer_scheme(request))
    except HTTPException as refusal:
        return refusal
    return None

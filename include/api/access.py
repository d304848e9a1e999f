"""Who may call a route. Airflow does not look after what a plugin serves: without these it is open to all.

A route here shows what a Dag has made, so whoever may see the runs of that Dag may call it; and one that
changes a job is for whoever may start such a run. Airflow's auth manager decides, by the same login, roles
and Dag permissions as everywhere in Airflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import (
    bearer_scheme,
    get_user,
    requires_access_dag,
    requires_authenticated,
)
from fastapi import Depends
from starlette.exceptions import HTTPException

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastapi import Request
    from fastapi.params import Depends as Guard


def logged_in() -> Guard:
    """Refuse (401) whoever is not logged in to Airflow."""
    guard: Guard = Depends(requires_authenticated())
    return guard


def may_see_runs_of(dag_id: str) -> Guard:
    """Refuse (403) whoever may not see the runs of that Dag."""
    guard: Guard = Depends(requires_access_dag("GET", DagAccessEntity.RUN, dag_id))
    return guard


def may_start(dag_id: str) -> Guard:
    """Refuse (403) whoever may not trigger runs of that Dag."""
    guard: Guard = Depends(starting_is_allowed(dag_id))
    return guard


def starting_is_allowed(dag_id: str) -> Callable[..., Any]:
    """The question itself, asked with the request and the user; raises HTTPException (403) for no."""
    asked: Callable[..., Any] = requires_access_dag("POST", DagAccessEntity.RUN, dag_id)
    return asked


async def stranger(request: Request) -> HTTPException | None:
    """What refuses this request (401, or 403 for a forged token), whatever it asks for; None for a user.

    For errors that come before any guard is asked: no such route, another method, a body that is no JSON.
    """
    try:
        await get_user(request, bearer_credentials=await bearer_scheme(request))
    except HTTPException as refusal:
        return refusal
    return None

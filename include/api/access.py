"""Who may call a route. Airflow does not look after what a plugin serves: without these it is open to all.

A route here shows what a Dag has made, so whoever may see the runs of that Dag may call it. Airflow's auth
manager decides, by the same login, roles and Dag permissions as everywhere in Airflow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag, requires_authenticated
from fastapi import Depends

if TYPE_CHECKING:
    from fastapi.params import Depends as Guard


def logged_in() -> Guard:
    """Refuse (401) whoever is not logged in to Airflow."""
    guard: Guard = Depends(requires_authenticated())
    return guard


def may_see_runs_of(dag_id: str) -> Guard:
    """Refuse (403) whoever may not see the runs of that Dag."""
    guard: Guard = Depends(requires_access_dag("GET", DagAccessEntity.RUN, dag_id))
    return guard

"""The current user and the user's permissions: pages show only permitted actions."""

from __future__ import annotations

from http import HTTPStatus

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Request
from starlette.exceptions import HTTPException

from include.api.access import check_access
from include.api.addresses import read_airflow_url
from include.api.bodies import ResponseBody
from include.api.deployment import CurrentSettings
from include.jobs.job import TRAINING_DAG
from include.plain_text import escape_controls
from include.registry.request import REGISTER_DAG

router = APIRouter(prefix="/session", tags=["session"])


class Session(ResponseBody):
    """The current user, and the user's permissions."""

    user: str
    """The user's name in Airflow; jobs record it as their owner."""
    may_start: bool
    """Whether the user may start training runs, and change those that they started."""
    may_register: bool
    """Whether the user may upload, register and archive datasets; deleting also requires permission to
    trigger `delete_data`."""
    may_change_all_jobs: bool
    """Whether the user may change other users' jobs: as a job administrator, or because every user may."""
    job_administrators: list[str]
    """Users who may change everyone's jobs."""
    airflow_url: str
    """Base URL of Airflow's UI, without a trailing slash."""


@router.get("")
def get_session(request: Request, user: GetUserDep, settings: CurrentSettings) -> Session:
    """Return the current user and their permissions."""
    ownership = settings.ownership
    return Session(
        user=escape_controls(user.get_name()),
        may_start=_may_start(TRAINING_DAG, request, user),
        may_register=_may_start(REGISTER_DAG, request, user),
        may_change_all_jobs=ownership.may_change_all(user.get_name()),
        job_administrators=[escape_controls(name) for name in sorted(ownership.administrators)],
        airflow_url=read_airflow_url(),
    )


def _may_start(dag_id: str, request: Request, user: GetUserDep) -> bool:
    try:
        check_access("POST", dag_id)(request, user)
    except HTTPException as refusal:
        if refusal.status_code != HTTPStatus.FORBIDDEN:
            raise
        return False
    return True

"""The current user and their permissions: pages show only what the user may do."""

from __future__ import annotations

from http import HTTPStatus

from airflow.api_fastapi.core_api.security import GetUserDep  # noqa: TC002 - read at run time
from fastapi import APIRouter, Request  # noqa: TC002
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from include.api.access import check_can_start
from include.api.addresses import airflow_url
from include.jobs.job import TRAINING_DAG
from include.plain_text import escape_controls

router = APIRouter(prefix="/session", tags=["session"])


class Session(BaseModel):
    """The current user. may_start: whether they may start, stop and complete trainings."""

    user: str
    may_start: bool
    airflow_url: str


@router.get("")
def get_session(request: Request, user: GetUserDep) -> Session:
    """Return the user who is logged in, and whether they may start trainings."""
    try:
        check_can_start(TRAINING_DAG)(request, user)
        may_start = True
    except HTTPException as refusal:
        if refusal.status_code != HTTPStatus.FORBIDDEN:
            raise
        may_start = False
    return Session(user=escape_controls(user.get_name()), may_start=may_start, airflow_url=airflow_url())

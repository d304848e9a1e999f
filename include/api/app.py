"""The application that Airflow's API server mounts at PREFIX."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request  # noqa: TC002 - FastAPI reads annotations at run time

from include.api import checkpoints, completion, events, jobs, models, pictures, session, stopping
from include.api.access import logged_in
from include.api.addresses import PREFIX
from include.api.database import connected
from include.api.hub import Hub
from include.api.problems import answer_with_problems, documented, responses

__all__ = ["PREFIX", "create_app"]

_DESCRIPTION = """What Airflow's own REST API cannot tell: trainings as they happen, and versions of models.

Log in as to Airflow: with the session of its UI, or with a token of `POST /auth/token`. To start something,
use Airflow's own API: permissions, validation and audit come with it."""


def create_app() -> FastAPI:
    """All routes, each of them guarded. FastAPI's own pages are off: they would be open to anyone."""
    app = FastAPI(
        title="Training",
        version="1",
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        dependencies=[logged_in()],
        responses=responses(
            HTTPStatus.UNAUTHORIZED,
            HTTPStatus.FORBIDDEN,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
    )
    answer_with_problems(app)
    app.state.hub = Hub(connected)
    for part in (jobs, events, checkpoints, pictures, completion, stopping, models, session):
        app.include_router(part.router)

    @app.get("/openapi.json", include_in_schema=False)
    def describe(request: Request) -> dict[str, Any]:
        return documented(app.openapi()) | {"servers": [{"url": request.scope["root_path"]}]}

    return app

"""The application that Airflow's API server mounts at PREFIX."""

from __future__ import annotations

from collections import Counter
from http import HTTPStatus
from typing import Any

from fastapi import Depends, Request  # noqa: TC002 - FastAPI reads annotations at run time
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Cookie, Header, Path

from include.api import (
    PREFIX,
    checkpoints,
    dataset_changes,
    datasets,
    deletion_progress,
    events,
    job_changes,
    jobs,
    models,
    pictures,
    pretrained,
    samples,
    session,
    uploads,
    usage,
    validation,
)
from include.api.database import open_database
from include.api.guarded_app import GuardedApp
from include.api.hub import Hub
from include.api.problems import ProblemError, describe_errors, document_problems
from include.serving.bodies import LISTS, WEIGHTS
from include.serving.headers import FOR_DATA

__all__ = ["PREFIX", "create_app"]

_DESCRIPTION = """\
Resources that Airflow's own REST API lacks: training runs with their live progress, datasets, versions
of models, pretrained weights, uploads and GPU hours.

Log in with the session of Airflow's UI, or with a token from `POST /auth/token`. To start a training
run, use Airflow's own API, which adds permissions, validation and an audit log."""


_ROUTES = (
    jobs,
    events,
    checkpoints,
    pictures,
    job_changes,
    deletion_progress,
    datasets,
    dataset_changes,
    validation,
    models,
    pretrained,
    samples,
    session,
    uploads,
    usage,
)
"""The modules that define a router."""

LARGER_BODIES = {"/pretrained/": WEIGHTS, "/uploads": LISTS}
"""Limits for the paths that accept larger request bodies than other paths, by prefix of the path."""


def create_app() -> GuardedApp:
    """Create the application with all of its routes, each protected by a guard."""
    app = GuardedApp(
        FOR_DATA,
        LARGER_BODIES,
        title="Training",
        version="1",
        description=_DESCRIPTION,
        responses=describe_errors(
            HTTPStatus.UNAUTHORIZED,
            HTTPStatus.FORBIDDEN,
            HTTPStatus.REQUEST_TIMEOUT,
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            HTTPStatus.REQUEST_URI_TOO_LONG,
            HTTPStatus.UNPROCESSABLE_ENTITY,
            HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
            HTTPStatus.SERVICE_UNAVAILABLE,
        ),
    )
    app.state.hub = Hub(open_database)
    app.state.streams = Counter()
    for part in _ROUTES:
        app.include_router(part.router, dependencies=[Depends(_reject_unknown_parameters)])

    @app.get("/openapi.json", include_in_schema=False)
    def describe(request: Request) -> dict[str, Any]:
        return document_problems(app.openapi()) | {"servers": [{"url": request.scope["root_path"]}]}

    return app


def _reject_unknown_parameters(request: Request) -> None:
    """Refuse (422) unknown query parameters, such as misspelt ones, which FastAPI would ignore."""
    if not request.query_params:
        return
    params = get_flat_params(request.scope["route"].dependant)
    known = {param.alias for param in params if not isinstance(param.field_info, (Path, Header, Cookie))}
    for name in request.query_params:
        if name not in known:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"Unknown parameter {name[:100]}")

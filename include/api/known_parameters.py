"""Refusing unknown query parameters, which FastAPI would ignore."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from fastapi import Depends, Request  # noqa: TC002 - FastAPI reads annotations at run time
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import Cookie, Header, Path

from include.api.problems import ProblemError

if TYPE_CHECKING:
    from fastapi.params import Depends as Guard


def reject_unknown_parameters() -> Guard:
    """Refuse (422) requests with unknown query parameters, so that a misspelt one is not silently ignored."""
    guard: Guard = Depends(_require_known)
    return guard


def _require_known(request: Request) -> None:
    if not request.query_params:
        return
    params = get_flat_params(request.scope["route"].dependant)
    known = {param.alias for param in params if not isinstance(param.field_info, (Path, Header, Cookie))}
    for name in request.query_params:
        if name not in known:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"Unknown parameter {name[:100]}")

"""Versions of models: their evaluation, their stage, and the reason for the stage."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field, TypeAdapter

from include.api.access import require_can_see_runs
from include.api.bodies import ResponseBody
from include.api.database import Database
from include.api.pages import Cursor, Limit, decode_cursor, encode_cursor
from include.api.problems import describe_errors
from include.models.repository import ModelRepository
from include.models.version import ModelVersion, Stage
from include.plain_text import escape_model
from include.retraining.request import RetrainRequest

router = APIRouter(
    prefix="/models", tags=["models"], dependencies=[require_can_see_runs(RetrainRequest.dag_id)]
)

_POSITION = TypeAdapter(tuple[str, int])
"""Name and version of the last entry of a page."""


class ModelsQuery(BaseModel):
    """Query parameters for listing versions of models."""

    name: str | None = Field(None, max_length=128, description="Only versions of this model.")
    stage: Stage | None = Field(None, description="Only versions in this stage.")
    limit: Limit = 50
    """Page size."""
    cursor: Cursor | None = None
    """Where the page begins; None for the first page."""


class ModelPage(ResponseBody):
    """Versions, the newest first."""

    models: list[ModelVersion]
    """The versions on this page."""
    next: str | None
    """Cursor of the next page; null on the last page."""


@router.get("")
def list_models(query: Annotated[ModelsQuery, Query()], database: Database) -> ModelPage:
    """List the versions of all models, or of one, the newest first."""
    before = decode_cursor(query.cursor, _POSITION)
    found = ModelRepository(database).list(
        query.name, stage=query.stage, limit=query.limit + 1, before=before
    )
    page = [escape_model(version) for version in found[: query.limit]]
    more = len(found) > len(page)
    return ModelPage(models=page, next=encode_cursor(page[-1].name, page[-1].version) if more else None)


@router.get("/{name}/{version}", responses=describe_errors(HTTPStatus.NOT_FOUND))
def get_model(
    name: str, version: Annotated[int, Path(ge=1, le=2**31 - 1)], database: Database
) -> ModelVersion:
    """Return one version with its evaluation."""
    return escape_model(ModelRepository(database).require(name, version))

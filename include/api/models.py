"""Versions of models: what was trained and measured, what became of it, and why."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field, TypeAdapter

from include.api.access import may_see_runs_of
from include.api.database import Database  # noqa: TC001 - FastAPI reads annotations at run time
from include.api.pages import Cursor, Limit, cursor_at, place_of
from include.api.problems import responses
from include.models.repository import ModelRepository
from include.models.version import ModelVersion, Stage
from include.plain_text import escape_all_controls

router = APIRouter(prefix="/models", tags=["models"], dependencies=[may_see_runs_of("retrain_yolo")])

_PLACE = TypeAdapter(tuple[str, int])
"""Name and version of the last entry of a page."""


class ModelsQuery(BaseModel):
    """Which versions to list."""

    name: str | None = Field(None, max_length=128, description="Versions of this model only.")
    stage: Stage | None = Field(None, description="Versions in this stage only.")
    limit: Limit = 50
    cursor: Cursor | None = None


class ModelPage(BaseModel):
    """Versions, the newest first; next is the cursor of the page after this one, null on the last page."""

    models: list[ModelVersion]
    next: str | None


@router.get("")
def list_models(asked: Annotated[ModelsQuery, Query()], database: Database) -> ModelPage:
    """List the versions of all models, or of one, the newest first."""
    before = place_of(asked.cursor, _PLACE)
    found = ModelRepository(database).list(
        asked.name, stage=asked.stage, limit=asked.limit + 1, before=before
    )
    page = [_shown(version) for version in found[: asked.limit]]
    more = len(found) > len(page)
    return ModelPage(models=page, next=cursor_at(page[-1].name, page[-1].version) if more else None)


@router.get("/{name}/{version}", responses=responses(HTTPStatus.NOT_FOUND))
def get_model(
    name: str, version: Annotated[int, Path(ge=1, le=2**31 - 1)], database: Database
) -> ModelVersion:
    """Return one version, with what it was measured by."""
    return _shown(ModelRepository(database).require(name, version))


def _shown(version: ModelVersion) -> ModelVersion:
    """Return the version, but for characters that do something to the screen of whoever reads it."""
    return ModelVersion.model_validate(escape_all_controls(version.model_dump()))

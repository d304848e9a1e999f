"""Checking the parameters of a training before a run is triggered."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Body, Request  # noqa: TC002 - FastAPI reads annotations at run time
from pydantic import BaseModel, Field

from include.api.access import require_can_start
from include.api.airflow_runs import is_running
from include.api.database import Database  # noqa: TC001 - FastAPI reads annotations at run time
from include.checkpoints.store import CheckpointStore
from include.claim.resolve import RunIdentity, check
from include.deployment.connections import open_bucket
from include.deployment.model_keys import verification
from include.deployment.settings import Settings
from include.jobs.job import TRAINING_DAG
from include.jobs.repository import JobRepository
from include.jobs.spec import SpecError, TrainingSpec
from include.plain_text import escape_all_controls
from include.refusals import field_of
from include.registry.repository import DatasetRepository
from include.s3.errors import StoreRefusal
from include.weights.initial import InitialWeightsFinder

router = APIRouter(tags=["jobs"], dependencies=[require_can_start(TRAINING_DAG)])


class Validation(BaseModel):
    """One sentence for each wrong parameter; without errors, a run may be triggered."""

    errors: dict[str, str] = Field(
        description="By name of the parameter; an error that concerns no single one has an empty name."
    )


@router.post("/validate")
def validate(request: Request, database: Database, params: Annotated[dict[str, Any], Body()]) -> Validation:
    """Check the parameters of a training as `train_yolo` will, except for files that must be downloaded.

    They are the `conf` of a run. Nothing is reserved: a job id that is free now may be taken a moment later.
    """
    errors = TrainingSpec.find_problems(params) or _find_conflicts(request, database, params)
    escaped: dict[str, str] = escape_all_controls(errors)
    return Validation(errors=escaped)


def _find_conflicts(request: Request, database: Any, params: dict[str, Any]) -> dict[str, str]:
    """Return problems that only the database and S3 reveal.

    The job is taken, cannot be resumed, or was started with other parameters.
    """
    settings, jobs = Settings.from_environment(), JobRepository(database)
    bucket = open_bucket(settings, interactive=True)
    store = CheckpointStore(bucket)
    finder = InitialWeightsFinder.of(bucket, settings.pretrained_url, database, verification(settings))
    nobody = RunIdentity(TRAINING_DAG, "", datetime.now(UTC), None)
    try:
        check(
            params,
            nobody,
            jobs,
            store,
            partial(is_running, request),
            finder,
            DatasetRepository(database),
        )
    except (SpecError, StoreRefusal) as refusal:
        return {field_of(str(refusal), TrainingSpec): str(refusal)}
    return {}

"""Checks the parameters of a training run before the run is triggered."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Body, Request

from include.api.access import require_can_start
from include.api.airflow_runs import in_own_thread, is_run_active
from include.api.bodies import ResponseBody
from include.api.database import Database
from include.api.deployment import CurrentSettings
from include.claim.claimant import Claimant, RunIdentity
from include.claim.resolve import check
from include.deployment.connections import open_bucket
from include.jobs.job import TRAINING_DAG
from include.jobs.spec import SpecError, TrainingSpec
from include.plain_text import escape_all_controls
from include.s3.errors import StoreRefusal

if TYPE_CHECKING:
    from psycopg import Connection

    from include.deployment.settings import Settings

router = APIRouter(tags=["jobs"], dependencies=[require_can_start(TRAINING_DAG)])


class Validation(ResponseBody):
    """One sentence for each wrong parameter. If there are no errors, a run may be triggered."""

    errors: dict[str, str]
    """Errors by parameter; the name is empty for an error that concerns no single parameter."""
    wait: str | None
    """Why the job would first wait for other jobs of the same user; null if it would not wait."""


@router.post("/validate")
@in_own_thread
def validate(
    request: Request,
    user: GetUserDep,
    database: Database,
    settings: CurrentSettings,
    params: Annotated[dict[str, Any], Body()],
) -> Validation:
    """Check the parameters of a training run in the same way as `train_yolo`.

    The dataset's data, and weights that must be downloaded, are not checked. The body is the `conf` of the
    run that the caller would trigger. Nothing is reserved: a job id that is free now may be taken a moment
    later, and so may the rest of the caller's quota.
    """
    errors, wait = TrainingSpec.find_problems(params), None
    if not errors:
        errors, wait = _find_conflicts(request, user.get_name(), database, settings, params)
    return Validation(errors=escape_all_controls(errors), wait=escape_all_controls(wait))


def _find_conflicts(
    request: Request, user: str, database: Connection[Any], settings: Settings, params: dict[str, Any]
) -> tuple[dict[str, str], str | None]:
    """Return problems that only the database and S3 reveal, and the reason why the job would wait.

    For example, the job id is taken, or the job belongs to another user, cannot be resumed, or was started
    with different parameters. A job waits if its user's quota is used up.
    """
    bucket = open_bucket(settings, interactive=True)
    not_triggered = RunIdentity(TRAINING_DAG, "", datetime.now(UTC), user)
    claimant = Claimant.of(not_triggered, database, bucket, settings, partial(is_run_active, request))
    try:
        wait = check(params, claimant)
    except SpecError as refusal:
        return {refusal.field: str(refusal)}, None
    except StoreRefusal as refusal:
        return {"": str(refusal)}, None
    return {}, wait

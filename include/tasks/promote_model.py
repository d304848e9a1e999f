"""The work of `promote_model`: opens connections, promotes a version, and emits the asset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from include.deployment.connections import open_bucket, open_training_db
from include.deployment.model_keys import load_signing
from include.deployment.settings import Settings
from include.models.promotion import find_version_to_promote, promote
from include.models.request import PromotionRequest
from include.orchestration.assets import PRODUCTION_MODEL
from include.orchestration.failures import no_retry

if TYPE_CHECKING:
    from airflow.sdk import Context
    from psycopg import Connection

    from include.models.request import ChosenVersion
    from include.models.version import ModelVersion


def choose_version(context: Context) -> ChosenVersion:
    """Return the version to promote; nothing is written yet."""
    run = context["dag_run"]
    with open_training_db() as connection, no_retry():
        return find_version_to_promote(connection, PromotionRequest.parse(run.conf), run.run_after)


def promote_chosen(chosen: ChosenVersion, context: Context) -> ModelVersion:
    """Promote the chosen version, unless another one was promoted in the meantime; emit the asset."""
    run = context["dag_run"]
    # A conflict is final as well: a retry would replace the version that was promoted first.
    with open_training_db() as connection, no_retry():
        return promote_and_announce(connection, chosen, run.triggering_user_name or run.run_id, context)


def promote_and_announce(
    connection: Connection[Any], chosen: ChosenVersion, by: str, context: Context
) -> ModelVersion:
    """Promote the version on behalf of `by`, and describe the version in the asset event that the task emits.

    The event's `path` is the version's own file, not the production key. That file is never replaced, so a
    deployment that handles the event late still gets this version.
    """
    settings = Settings.from_environment()
    promoted = promote(connection, open_bucket(settings), chosen, by=by, signing=load_signing(settings))
    context["outlet_events"][PRODUCTION_MODEL].extra = promoted.model_dump(
        mode="json", include={"name", "version", "path", "sha256", "job_id"}
    )
    return promoted

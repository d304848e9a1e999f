"""What the tasks of `promote_model` do: open the outside world, promote, tell who has subscribed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.deployment.connections import open_bucket, open_training_db
from include.deployment.settings import Settings
from include.models.promotion import choose, promote
from include.models.request import PromotionRequest
from include.orchestration.assets import PRODUCTION_MODEL
from include.orchestration.failures import no_retry

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.sdk.types import OutletEventAccessorsProtocol

    from include.models.request import ChosenVersion
    from include.models.version import ModelVersion


def choose_version(context: Context) -> ChosenVersion:
    """Decide what the run promotes, before anything is written."""
    with open_training_db() as connection, no_retry():
        # The conf and not `params`: it holds unknown keys too, which have to be refused.
        return choose(connection, PromotionRequest.parse(context["dag_run"].conf or {}))


def promote_chosen(chosen: ChosenVersion, context: Context) -> ModelVersion:
    """Promote what was chosen, unless another version came into production since; and announce it."""
    run = context["dag_run"]
    # A conflict is final, too: tried again, it would take the place of the one that was quicker.
    with open_training_db() as connection, no_retry():
        promoted = promote(
            connection,
            open_bucket(Settings.from_environment()),
            chosen,
            by=run.triggering_user_name or run.run_id,
        )
    announce(promoted, context["outlet_events"])
    return promoted


def announce(promoted: ModelVersion, events: OutletEventAccessorsProtocol) -> None:
    """Say what came into production, in the event of the asset that the task has as its outlet.

    path is the version's own file and not the place of production: it is never replaced, so a deployment that
    comes late gets the very file that the event tells of.
    """
    events[PRODUCTION_MODEL].extra = promoted.model_dump(
        mode="json", include={"name", "version", "path", "sha256", "job_id"}
    )

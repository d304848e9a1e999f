"""Bring a version of a model into production, or roll back.

Give the model's `name` and press *Trigger*: with a `version`, that one is promoted; without, the model is
rolled back to the older version that was in production last. Every version that retraining ever evaluated can
be promoted, a refused one with `force`.

The version's file is read and compared with its recorded SHA-256, copied within S3 to the place of
production, and read back; only then the database changes. Of two runs at once, one wins and the other fails,
saying so.

| where | what |
|---|---|
| `s3://{bucket}/models/{name}/production/best.pt` | what is in production; its metadata say which version |
| `s3://{bucket}/models/{name}/versions/{version}/best.pt` | a version's own file, never replaced |
| table `model_versions` | what was measured; who promoted what and when, and why |
| asset `production-model` | its event tells `name`, `version`, `path`, `sha256` and `job_id` |
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, get_current_context, task

from include.models.request import PromotionRequest
from include.pipeline.assets import PRODUCTION_MODEL
from include.pipeline.form import params_of
from include.pipeline.retries import DEFAULT_ARGS

Json = dict[str, Any]


@dag(
    schedule=None,
    params=params_of(PromotionRequest),
    doc_md=__doc__,
    tags=["training", "models"],
    default_args=DEFAULT_ARGS,
    is_paused_upon_creation=False,
)
def promote_model() -> None:
    @task
    def check_schema() -> None:
        """Fail fast where the tables are behind the code."""
        from include.pipeline.tasks import require_current_schema

        require_current_schema()

    @task
    def choose_version() -> Json:
        """Check the parameters, and find the version; tried again, `promote` goes no further back."""
        from include.pipeline.promotion import choose_version

        return choose_version(get_current_context()).model_dump(mode="json")

    @task(outlets=[PRODUCTION_MODEL])
    def promote(chosen: Json) -> Json:
        """Copy the version's file to the place of production, then record it and emit the asset."""
        from include.pipeline.promotion import promote_chosen

        return promote_chosen(chosen, get_current_context()).model_dump(mode="json")

    chosen = choose_version()
    check_schema() >> chosen
    promote(chosen)


promote_model()

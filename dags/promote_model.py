"""Promote a version of a model to production, or roll back.

Enter the model's `name` and press *Trigger*. With a `version`, that version is promoted; without one, the
model is rolled back to the older version that was in production most recently. Every version that retraining
has evaluated can be promoted. A version that was rejected, or that was promoted earlier without a signature,
needs `force`.

The version's file is read, compared with its recorded SHA-256, signed (or its signature verified), copied
within S3 to the production key and read back. Only then does the database change. If two runs promote the
same model at the same time, one succeeds, and the other fails with a message that says so.

| where | what |
|---|---|
| `s3://{bucket}/models/{name}/production/best.pt` | the model in production; its version is in the metadata |
| `s3://{bucket}/models/{name}/versions/{version}/best.pt` | a version's own file, never replaced |
| `best.pt.sig` beside each file | its signature, if the deployment signs models (`docs/models.md`) |
| table `model_versions` | evaluations, and who promoted which version when and why |
| asset `production-model` | its events contain `name`, `version`, `path`, `sha256` and `job_id` |
"""

from __future__ import annotations

from airflow.sdk import dag, get_current_context

from include.deployment.settings import PROMOTION_QUEUE
from include.models.request import ChosenVersion, PromotionRequest
from include.models.version import ModelVersion
from include.orchestration.assets import PRODUCTION_MODEL
from include.orchestration.current_schema import check_schema
from include.orchestration.params import dag_params
from include.orchestration.retries import DEFAULT_ARGS
from include.orchestration.typed_task import run_in_order, typed_task


@dag(
    schedule=None,
    params=dag_params(PromotionRequest),
    doc_md=__doc__,
    tags=["training", "models"],
    default_args=DEFAULT_ARGS,
    is_paused_upon_creation=False,
)
def promote_model() -> None:
    @typed_task()
    def choose_version() -> ChosenVersion:
        """Check the parameters and choose the version; a retry of `promote` then does not roll back twice."""
        from include.tasks.promote_model import choose_version

        return choose_version(get_current_context())

    @typed_task(outlets=[PRODUCTION_MODEL], queue=PROMOTION_QUEUE)
    def promote(chosen: ChosenVersion) -> ModelVersion:
        """Sign the version, copy both files to production, record the promotion, and emit the asset."""
        from include.tasks.promote_model import promote_chosen

        return promote_chosen(chosen, get_current_context())

    chosen = choose_version()
    run_in_order(check_schema(), chosen)
    promote(chosen)


promote_model()

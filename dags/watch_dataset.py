"""Announce training data in S3 that have changed, and nothing else.

Every hour, while this Dag is not paused, the data sets in S3 of all retraining plans are listed (or the one
that a run names). Where names, sizes or ETags are others than what was announced last, a task emits the asset
`training-dataset` with the data set and its fingerprint, and the plans with `on_new_data` run; otherwise it
is skipped. Nothing is downloaded, and nothing is remembered but the events themselves.

Data that are uploaded file by file are announced half-way, too: upload to a new place and change the plan, or
use one .zip, which appears as a whole.
"""

from __future__ import annotations

from airflow.sdk import dag, get_current_context, task

from include.pipeline.assets import TRAINING_DATASET
from include.pipeline.form import params_of
from include.pipeline.retries import DEFAULT_ARGS
from include.pipeline.watching import WatchRequest


@dag(
    schedule="@hourly",
    params=params_of(WatchRequest),
    doc_md=__doc__,
    tags=["training", "retraining"],
    default_args=DEFAULT_ARGS,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=True,
)
def watch_dataset() -> None:
    @task
    def list_datasets() -> list[str]:
        """Name the data sets to look at."""
        from include.pipeline.plans import deployed_plans
        from include.pipeline.watching import watched

        return watched(get_current_context()["dag_run"].conf or {}, deployed_plans())

    @task(
        doc_md="Emit the asset where the content is not what was announced last.",
        inlets=[TRAINING_DATASET],
        outlets=[TRAINING_DATASET],
        map_index_template="{{ task.op_kwargs['dataset'] }}",
    )
    def announce(dataset: str) -> dict[str, str]:
        """Emit the asset where the content is not what was announced last."""
        from include.pipeline.watching import announce_if_changed

        return announce_if_changed(dataset, get_current_context())

    announce.expand(dataset=list_datasets())


watch_dataset()

"""Announce changed training data in S3.

Every hour, unless it is paused, this Dag lists the S3 datasets of all retraining plans, or only the one that
a run names. If names, sizes or ETags differ from the last announcement, a task emits the asset
`training-dataset` with the dataset and its fingerprint, which triggers the plans with `on_new_data`;
otherwise the task is skipped. Nothing is downloaded, and the asset's events are the only memory.

Data that are uploaded file by file may be announced while the upload is incomplete. To avoid that, upload to
a new prefix and change the plan, or use a single .zip, which appears all at once.
"""

from __future__ import annotations

from airflow.sdk import dag, get_current_context, task

from include.orchestration.assets import TRAINING_DATASET
from include.orchestration.params import dag_params
from include.orchestration.retries import DEFAULT_ARGS
from include.tasks.watch_dataset import WatchRequest


@dag(
    schedule="@hourly",
    params=dag_params(WatchRequest),
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
        """Return the datasets to check."""
        from include.deployment.plans import deployed_plans
        from include.tasks.watch_dataset import list_datasets

        return list_datasets(get_current_context()["dag_run"].conf or {}, deployed_plans())

    @task(
        doc_md="Emit the asset if the content differs from the last announcement.",
        inlets=[TRAINING_DATASET],
        outlets=[TRAINING_DATASET],
        map_index_template="{{ task.op_kwargs['dataset'] }}",
    )
    def announce(dataset: str) -> dict[str, str]:
        """Emit the asset if the content differs from the last announcement."""
        from include.tasks.watch_dataset import announce_if_changed

        return announce_if_changed(dataset, get_current_context())

    announce.expand(dataset=list_datasets())


watch_dataset()

"""Announce changed training data in S3, and register them as versions.

Unless it is paused, this Dag lists the S3 datasets of all retraining plans every hour. A run with the
parameter `dataset` lists only that dataset. Nothing is downloaded.

| task | what it does |
|---|---|
| `list_datasets` | lists the addresses that plans train on |
| `announce` | emits the asset `training-dataset` if names, sizes or ETags differ from the last announcement |
| `check_schema` | fails early unless the tables are at the schema revision of this code |
| `list_registrations` | lists the registered datasets whose data have changed since their last version |
| `register` | triggers `register_dataset` for each of them, which checks the data and records a version |

The asset triggers the plans with `on_new_data`. For a plan with `dataset: s3://…`, `announce` emits it. The
data are also registered as the next version of each dataset that was registered from that address. If there
is no such dataset, they become a new dataset with the plan's name. For a plan with `dataset: name`,
`register_dataset` emits the asset once it has recorded the new version. If a registration fails, its data are
checked again once they change, or once the failed run of `register_dataset` is cleared.

Data that are uploaded file by file may be announced while the upload is incomplete. To avoid that, upload to
a new prefix and then change the plan. Or upload a single .zip file: it appears only when it is complete.
"""

from __future__ import annotations

from airflow.sdk import dag, get_current_context, task

from include.orchestration.assets import TRAINING_DATASET
from include.orchestration.current_schema import check_schema
from include.orchestration.params import dag_params
from include.orchestration.retries import DEFAULT_ARGS
from include.orchestration.typed_task import as_xcom, run_in_order, typed_task
from include.tasks.training_operators import TriggerRegistrationOperator
from include.tasks.watch_dataset import RegistrationRun, WatchRequest


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
        from include.deployment.settings import load_deployed_plans
        from include.tasks.watch_dataset import list_datasets

        return list_datasets(get_current_context()["dag_run"].conf or {}, load_deployed_plans())

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

    @typed_task()
    def list_registrations() -> list[RegistrationRun]:
        """Return the runs of register_dataset to trigger."""
        from include.deployment.settings import load_deployed_plans
        from include.tasks.watch_dataset import list_registrations

        return list_registrations(get_current_context()["dag_run"].conf or {}, load_deployed_plans())

    announce.expand(dataset=list_datasets())
    changed = list_registrations()
    run_in_order(check_schema(), changed)
    TriggerRegistrationOperator.partial(
        task_id="register",
        doc_md="Start register_dataset, unless a run of it for the same data exists.",
    ).expand_kwargs(as_xcom(changed))


watch_dataset()

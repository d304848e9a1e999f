"""Register data as the next version of a dataset.

Enter a `name` and the `source` of the data, and press *Trigger*. The data are checked file by file, as before
a training run; only data without errors become a version. Versions of a name are numbered, and a version
never changes: it always consists of exactly the files that were checked.

| task | what it does |
|---|---|
| `check_schema` | fails early unless the tables are at the schema revision of this code |
| `check_dataset` | finds the data, fetches them, and checks every image and label |
| `record_version` | records the data as the next version, unless the newest version has the same content |
| `announce` | after a new version: stores how it differs from the last one, and emits `training-dataset` |

A training run with `dataset: parts` uses the newest version of *parts*, and one with `dataset: parts@3` uses
version 3. Versions are in the table `datasets`, on the page *Datasets*, and at `GET /datasets` of the
training API. A new version of *parts* triggers the retraining plans with `on_new_data` and `dataset: parts`.
"""

from __future__ import annotations

from airflow.sdk import dag, get_current_context

from include.orchestration.assets import TRAINING_DATASET
from include.orchestration.current_schema import check_schema
from include.orchestration.params import dag_params
from include.orchestration.retries import DEFAULT_ARGS
from include.orchestration.typed_task import run_in_order, typed_task
from include.registry.request import CheckedData, RegisteredVersion, RegisterRequest


@dag(
    schedule=None,
    params=dag_params(RegisterRequest),
    doc_md=__doc__,
    tags=["training", "datasets"],
    default_args=DEFAULT_ARGS,
    is_paused_upon_creation=False,
)
def register_dataset() -> None:
    @typed_task()
    def check_dataset() -> CheckedData:
        """Find the data and check them file by file."""
        from include.tasks.register_dataset import check_data

        return check_data(get_current_context())

    @typed_task()
    def record_version(checked: CheckedData) -> RegisteredVersion:
        """Record the data as the next version, unless the newest version has the same content."""
        from include.tasks.register_dataset import record_version

        return record_version(checked, get_current_context())

    @typed_task(outlets=[TRAINING_DATASET])
    def announce(registered: RegisteredVersion) -> dict[str, str | int]:
        """Compare the version with the one before, and emit the asset."""
        from include.tasks.register_dataset import announce_version

        return announce_version(registered, get_current_context())

    checked = check_dataset()
    run_in_order(check_schema(), checked)
    announce(record_version(checked))


register_dataset()

"""Delete a job or a version of a dataset, with everything that it has stored in S3.

The button *Delete* on the page of a job or version triggers this Dag. To trigger it here, enter `job_id` or
`dataset` (`name@version`). A job may be deleted only by its owner or a job administrator. A version may be
deleted only by the user who registered it, or by anyone if a schedule did. A job or version that is still
needed is not deleted, and the log says what needs it. A job that was started again after this run was
triggered is kept, too. Objects that are used elsewhere are kept.

| task | what it does |
|---|---|
| `check_schema` | fails early unless the tables are at the schema revision of this code |
| `delete` | deletes the row and objects; only workers of the queue `maintenance` may delete checkpoints |

A deletion cannot be undone. The result of `delete` is the number of deleted objects, and their size in bytes.
"""

from __future__ import annotations

from airflow.sdk import dag, get_current_context

from include.audit.deletion import Deletion, DeletionRequest
from include.deployment.settings import MAINTENANCE_QUEUE
from include.orchestration.current_schema import check_schema
from include.orchestration.params import dag_params
from include.orchestration.retries import DEFAULT_ARGS
from include.orchestration.typed_task import run_in_order, typed_task


@dag(
    schedule=None,
    params=dag_params(DeletionRequest),
    doc_md=__doc__,
    tags=["training", "operations"],
    default_args=DEFAULT_ARGS,
    is_paused_upon_creation=False,
)
def delete_data() -> None:
    @typed_task(queue=MAINTENANCE_QUEUE)
    def delete() -> Deletion:
        """Delete the row and the objects of the job or the version."""
        from include.tasks.delete_data import delete_data

        return delete_data(get_current_context())

    run_in_order(check_schema(), delete())


delete_data()

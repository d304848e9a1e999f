"""Compare the database with S3 every day, repair what is safe to repair, and expire old training states.

| task | what it does |
|---|---|
| `check_schema` | fails early unless the tables are at the schema revision of this code |
| `audit` | compares the rows, the bucket and the worker's machine, and reports every mismatch |
| `retain` | expires training states that the policy does not keep; by default it only reports them |

`audit` compares every recorded object with its recorded size and SHA-256, and reads a sample of the objects
again, or all of them with `full`. It also finds objects without a row, jobs that are recorded as active but
are not, incomplete uploads, and job folders that the worker's machine no longer needs. If a recorded object
is missing or damaged, it is repaired from an identical copy. Without such a copy, or with `repair` off,
`audit` fails and `retain` does not run. The log of `audit` has the report; the table `checkpoint_audits` has
up to 10,000 findings of each kind.

A training state consists of `last.pt` and `last.previous.pt`; `best.pt` is always kept. `retain` also keeps a
state if its job is pinned, if its model was promoted or may still be promoted, or if the job or one of its
children is active. Values that a run does not set come from the Variable `retention_policy`, for example
`{"keep_newest": 3, "keep_best": 3, "expire_after_days": 30, "dry_run": false}`; see docs/operations.md.

`audit` and `retain` run on the queue `maintenance`: only its workers may delete checkpoints and datasets.
"""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import CronTriggerTimetable, dag, get_current_context

from include.audit.request import AuditRequest
from include.audit.retention import RetentionReport
from include.deployment.settings import MAINTENANCE_QUEUE
from include.orchestration.current_schema import check_schema
from include.orchestration.params import dag_params
from include.orchestration.retries import DEFAULT_ARGS
from include.orchestration.typed_task import run_in_order, typed_task


@dag(
    # A new deployment must not run this immediately, because it has no tables yet.
    schedule=CronTriggerTimetable("17 3 * * *", timezone="UTC", run_immediately=timedelta(0)),
    params=dag_params(AuditRequest),
    doc_md=__doc__,
    tags=["training", "operations"],
    default_args=DEFAULT_ARGS,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
)
def audit_checkpoints() -> None:
    @typed_task(queue=MAINTENANCE_QUEUE)
    def audit() -> None:
        """Compare rows and S3 in both directions, then repair, record and report."""
        from include.tasks.audit_checkpoints import run_audit

        run_audit(get_current_context())

    @typed_task(queue=MAINTENANCE_QUEUE)
    def retain() -> RetentionReport:
        """Expire the states that the policy does not keep, or report which ones it would expire."""
        from include.tasks.audit_checkpoints import run_retention

        return run_retention(get_current_context())

    run_in_order(check_schema(), audit(), retain())


audit_checkpoints()

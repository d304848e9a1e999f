"""Compare Postgres with S3 every day, repair what is safe to repair, and give up states by policy.

| task | what it does |
|---|---|
| `audit` | looks at all that rows, the bucket and this machine hold, and says what does not fit |
| `retain` | gives up whole states that the policy does not keep; by default it only says which |

Every object that a row names is compared with the recorded size and SHA-256, and a sample of them, or with
`full` all, is read again. Then: objects without a row, rows that only seem to run, uploads that nobody
completed, job folders that this machine does not need any more. `audit` fails where something that a row
names is missing or damaged and no copy with the same bytes is left to repair it from; then nothing is given
up. Its log has the report, table `checkpoint_audits` every finding.

A whole state is `last.pt` with `last.previous.pt`; `best.pt` always stays. So do states that are pinned, of
jobs that are or were promoted or may still be, that run, or whose child runs. What a run does not give is
taken from Variable `retention_policy`, for example
`{"keep_newest": 3, "keep_best": 3, "expire_after_days": 30, "dry_run": false}`; see docs/operations.md.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import CronTriggerTimetable, dag, get_current_context, task

from include.audit.request import AuditRequest
from include.pipeline.form import params_of
from include.pipeline.retries import DEFAULT_ARGS

Json = dict[str, Any]


@dag(
    # Not at the moment at which a platform is set up: it has no tables yet.
    schedule=CronTriggerTimetable("17 3 * * *", timezone="UTC", run_immediately=timedelta(0)),
    params=params_of(AuditRequest),
    doc_md=__doc__,
    tags=["training", "operations"],
    default_args=DEFAULT_ARGS,
    catchup=False,
    max_active_runs=1,
    is_paused_upon_creation=False,
)
def audit_checkpoints() -> None:
    @task
    def check_schema() -> None:
        """Fail fast where the tables are behind the code."""
        from include.pipeline.tasks import require_current_schema

        require_current_schema()

    @task
    def audit() -> None:
        """Compare every row with S3 and S3 with every row; repair, record and report."""
        from include.pipeline.audits import audit_run

        audit_run(get_current_context())

    @task
    def retain() -> Json:
        """Give up the states that the policy does not keep, or say which these would be."""
        from include.pipeline.audits import retain_run

        return retain_run(get_current_context())

    check_schema() >> audit() >> retain()


audit_checkpoints()

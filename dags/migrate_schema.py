"""Migrate the training schema to a revision, in an empty database or alongside an existing host application.

| task | what it does |
|---|---|
| `plan` | runs the revisions, rolls them back, and logs the SQL, or the reasons why a revision cannot run |
| `apply` | runs and commits the revisions, each in its own transaction, unless anything blocks them |
| `verify` | reads back the columns, with their types and lengths, from the database |

The Dag is idempotent: a schema that is already at the revision is not changed. If another program migrates
the same database at the same time, one migration waits for the other. An existing table `training_jobs` is
adopted: missing columns are added, every row gets a `job_id`, and other values stay as they are. A downgrade
removes only what an upgrade created, and drops data only with `confirm_data_loss`.

In production, start with a `dry_run`. Even then, `plan` may briefly lock and rewrite the host application's
table to fill in `job_id`, and then roll this change back.
"""

from __future__ import annotations

from airflow.sdk import dag, get_current_context

from include.deployment.settings import MIGRATION_QUEUE
from include.orchestration.params import dag_params
from include.orchestration.retries import DEFAULT_ARGS
from include.orchestration.typed_task import typed_task
from include.schema.request import MigrationRequest


@dag(
    schedule=None,
    params=dag_params(MigrationRequest),
    doc_md=__doc__,
    tags=["training", "schema"],
    default_args=DEFAULT_ARGS,
    max_active_runs=1,
    is_paused_upon_creation=False,
)
def migrate_schema() -> None:
    @typed_task(queue=MIGRATION_QUEUE)
    def plan() -> MigrationRequest:
        """Log the SQL that would run, and return the request with its target resolved to a revision."""
        from include.tasks.migrate_schema import plan_migration

        return plan_migration(get_current_context())

    @typed_task(queue=MIGRATION_QUEUE)
    def apply(request: MigrationRequest) -> str:
        """Migrate, unless this is a dry run."""
        from include.tasks.migrate_schema import apply_migration

        return apply_migration(request)

    @typed_task(queue=MIGRATION_QUEUE)
    def verify(target: str) -> None:
        """Compare the database with the revision, and log every column."""
        from include.tasks.migrate_schema import verify_migration

        verify_migration(target)

    verify(apply(plan()))


migrate_schema()

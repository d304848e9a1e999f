"""Migrate the training schema to a revision, in an empty database or alongside an existing platform.

| task | what it does |
|---|---|
| `plan` | runs the revisions, rolls them back, and logs the SQL and anything that blocks it |
| `apply` | runs the revisions for good, each in one transaction; refuses while anything blocks them |
| `verify` | reads the columns with their types and lengths back from the database |

Migrating is idempotent and safe to run concurrently: one run migrates, and the others find nothing to do. An
existing table `training_jobs` is adopted: missing columns are added, every row gets a `job_id`, and its other
values stay as they are. A downgrade removes only what was created here, and drops data only with
`confirm_data_loss`. On a database that matters, run it with `dry_run` first; note that filling in `job_id`
locks and rewrites the platform's table for a moment, even in `plan`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.sdk import dag, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from include.deployment.settings import TRAINING_DB
from include.orchestration.failures import no_retry
from include.orchestration.params import params_of
from include.orchestration.retries import DEFAULT_ARGS
from include.orchestration.xcoms import require_result
from include.schema.request import MigrationRequest

if TYPE_CHECKING:
    from sqlalchemy import Engine

Json = dict[str, Any]

log = logging.getLogger(__name__)


@dag(
    schedule=None,
    params=params_of(MigrationRequest),
    doc_md=__doc__,
    tags=["training", "schema"],
    default_args=DEFAULT_ARGS,
    max_active_runs=1,
    is_paused_upon_creation=False,
)
def migrate_schema() -> None:
    @task
    def plan() -> Json:
        """Log the SQL that would run, and return the revision that the target stands for."""
        from include.schema import migrations

        with no_retry():
            request = MigrationRequest.parse(get_current_context()["dag_run"].conf or {})
            planned = migrations.plan(_engine(), request.target, confirm_data_loss=request.confirm_data_loss)
        log.log(logging.ERROR if planned.problems else logging.INFO, "%s", planned.report)
        return request.model_copy(update={"target": planned.target}).model_dump(mode="json")

    @task
    def apply(planned: Json) -> str:
        """Migrate, unless this is a dry run."""
        from include.schema import migrations

        request = MigrationRequest.parse(require_result(planned, "plan"))
        if request.dry_run:
            log.info("dry_run: nothing was changed. The log of the task plan shows what would change.")
            raise AirflowSkipException("dry_run")
        with no_retry():
            done = migrations.apply(_engine(), request.target, confirm_data_loss=request.confirm_data_loss)
        log.info("%s to %s: %s", done.current, done.target, ", ".join(done.revisions) or "nothing to do")
        return request.target

    @task
    def verify(target: str) -> None:
        """Log every column as it is in the database."""
        from include.schema import migrations

        with no_retry():
            for column in migrations.verify(_engine(), require_result(target, "apply")):
                log.info("%s", column)
        log.info("The training database holds what schema revision %s promises.", target)

    verify(apply(plan()))


def _engine() -> Engine:
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    from include.schema.session import engine_over

    return engine_over(PostgresHook(postgres_conn_id=TRAINING_DB).get_conn)


migrate_schema()

"""The schema check that is the first task of every Dag that uses the training database."""

from __future__ import annotations

from airflow.sdk import task


@task
def check_schema() -> None:
    """Fail early unless the tables are at the schema revision that this code requires."""
    require_current_schema()


def require_current_schema() -> None:
    """Fail, without a retry, if the schema is not at the revision that this code requires."""
    from include.deployment.connections import open_training_db
    from include.orchestration.failures import no_retry
    from include.schema.current import require_current

    with open_training_db() as connection, no_retry():
        require_current(connection)

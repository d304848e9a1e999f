"""The work of `migrate_schema`: plans, migrates and verifies the schema of the training database."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowNotFoundException, AirflowSkipException

from include.deployment.connections import open_training_db
from include.deployment.lookup import look_up
from include.deployment.settings import TRAINING_DB, TRAINING_DB_OWNER
from include.orchestration.failures import no_retry
from include.schema import migrations
from include.schema.current import BASE, read_revision
from include.schema.errors import SchemaUnverified
from include.schema.request import MigrationRequest
from include.schema.session import make_engine

if TYPE_CHECKING:
    from airflow.sdk import Context
    from sqlalchemy import Engine

log = logging.getLogger(__name__)


def plan_migration(context: Context) -> MigrationRequest:
    """Log the SQL that would run; return the request with its target resolved to a revision."""
    with no_retry():
        request = MigrationRequest.parse(context["dag_run"].conf)
        rehearsed = migrations.rehearse(
            _create_engine(),
            request.target,
            application_role=_find_application_role(),
            confirm_data_loss=request.confirm_data_loss,
        )
    log.log(logging.ERROR if rehearsed.problems else logging.INFO, "%s", rehearsed.report)
    return request.model_copy(update={"target": rehearsed.target})


def apply_migration(request: MigrationRequest) -> str:
    """Migrate, and return the revision. Raises AirflowSkipException for a dry run."""
    if request.dry_run:
        log.info("This is a dry run: nothing was changed. The log of task `plan` shows what would change.")
        raise AirflowSkipException("dry_run")
    with no_retry():
        done = migrations.apply(
            _create_engine(),
            request.target,
            application_role=_find_application_role(),
            confirm_data_loss=request.confirm_data_loss,
        )
    log.info("%s to %s: %d statements", done.current, done.target, len(done.statements))
    return request.target


def verify_migration(target: str) -> None:
    """Compare all columns with the revision and log them; require that workers see the same revision."""
    with no_retry():
        for column in migrations.verify(_create_engine(), target, application_role=_find_application_role()):
            log.info("%s", column)
        with open_training_db() as connection:
            seen = read_revision(connection) or BASE
        if seen != target:
            raise SchemaUnverified(
                f"Connection {TRAINING_DB} finds schema revision {seen}, but {TRAINING_DB_OWNER} finds "
                f"{target}: make both connect to the same database, with the same search_path."
            )
    log.info("The training database matches schema revision %s.", target)


def _create_engine() -> Engine:
    from airflow.providers.postgres.hooks.postgres import PostgresHook

    return make_engine(PostgresHook(postgres_conn_id=_find_owner()).get_conn)


def _find_application_role() -> str | None:
    """Return the role of connection `training_db`; None if that role also migrates."""
    if _find_owner() == TRAINING_DB:
        log.warning(
            "This worker has no connection %s, so %s migrates: every worker could change the schema. "
            "docs/deployment.md says how to separate the two roles.",
            TRAINING_DB_OWNER,
            TRAINING_DB,
        )
        return None
    with open_training_db() as connection:
        (role,) = connection.execute("SELECT current_user").fetchone() or ("",)
    return str(role)


def _find_owner() -> str:
    """Return the id of the connection that migrates: the owner's if it exists, or else the one for all tasks.

    Raises LookupFailed if Airflow cannot tell whether the owner's connection exists.
    """
    try:
        look_up(TRAINING_DB_OWNER)
    except AirflowNotFoundException:
        return TRAINING_DB
    return TRAINING_DB_OWNER

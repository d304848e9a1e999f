"""The operator that executes a query on the training database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.providers.common.sql.operators.sql import SQLExecuteQueryOperator

from include.deployment.settings import TRAINING_DB

if TYPE_CHECKING:
    from airflow.providers.postgres.hooks.postgres import PostgresHook


class TrainingSqlOperator(SQLExecuteQueryOperator):
    """Connects as all other tasks do.

    Otherwise, the `options` of the Airflow connection, such as a search_path, would replace ours instead of
    adding to them. In an outage, the connection would count as missing, which is not retried for long.
    """

    def get_db_hook(self) -> PostgresHook:
        """Return the hook that opens the connection."""
        from include.deployment.training_db_hook import TrainingDbHook

        return TrainingDbHook(postgres_conn_id=TRAINING_DB)

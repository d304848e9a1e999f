"""Airflow's PostgresHook, with the sessions that all other code gets."""

from __future__ import annotations

from typing import Any

from airflow.providers.postgres.hooks.postgres import PostgresHook

from include.deployment.connections import connect_training_db


class TrainingDbHook(PostgresHook):
    """Connects to the training database; the hook's own connection id and options are not used."""

    def get_conn(self) -> Any:
        """Return a connection with our time-outs, even if the Airflow connection has its own `options`."""
        return connect_training_db()

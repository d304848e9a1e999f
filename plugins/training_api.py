"""Airflow plugin: the REST API of the trainings, at /training/api/v1 of Airflow's API server.

Every process of Airflow loads this module, tasks too. The application, with FastAPI and all, is made only
where the list is read: in the API server.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.plugins_manager import AirflowPlugin


class TrainingApi(AirflowPlugin):
    """What the API server mounts."""

    name = "training_api"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:
        """One application."""
        from include.api.app import PREFIX, create_app

        return [{"name": "Training", "app": create_app(), "url_prefix": PREFIX}]

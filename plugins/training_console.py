"""Airflow plugin: the training console and its REST API, at /training on Airflow's API server.

All Airflow processes, even tasks, load this module. The applications import FastAPI, so they are created
only when the API server reads `fastapi_apps`.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from include.console import PREFIX


class TrainingConsole(AirflowPlugin):
    """The applications to mount, and their views in Airflow's UI: menu entries and a tab for each Dag run."""

    name = "training_console"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # created on first access
        """The FastAPI applications to mount: REST API and console.

        Only the API server reads this property, so this is also the place to register listeners.
        """
        from include.api import app as api
        from include.console import app as console
        from include.orchestration import marking

        marking.register()
        return [
            {"name": "Training API", "app": api.create_app(), "url_prefix": api.PREFIX},
            {"name": "Training console", "app": console.create_app(), "url_prefix": PREFIX},
        ]

    @cached_property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The middlewares that protect the whole API server."""
        from include.api import app as api
        from include.serving.server import list_root_middlewares

        return list_root_middlewares(
            {f"{api.PREFIX}{path}": limit for path, limit in api.LARGER_BODIES.items()}
        )

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The views. Their URLs begin with the path of `[api] base_url`, because Airflow does not add it."""
        path = urlsplit(conf.get("api", "base_url", fallback="/")).path.rstrip("/")
        console = f"{path}{PREFIX}"
        icons = {
            "icon": f"{console}/static/current/icons/training-light.svg",
            "icon_dark_mode": f"{console}/static/current/icons/training-dark.svg",
        }
        return [
            {
                "name": "Training runs",
                "href": f"{console}/jobs",
                "url_route": "trainings",
                "destination": "nav",
                "nav_top_level": True,
                **icons,
            },
            {
                "name": "Datasets",
                "href": f"{console}/datasets",
                "url_route": "datasets",
                "destination": "nav",
                "category": "browse",
                **icons,
            },
            {
                "name": "Training",
                "href": f"{console}/run?dag_id={{DAG_ID}}&run_id={{RUN_ID}}",
                "url_route": "training",
                "destination": "dag_run",
                **icons,
            },
        ]

"""Airflow plugin: the pages of the trainings and their REST API, at /training of Airflow's API server.

Every process of Airflow loads this module, tasks too. The applications, with FastAPI and all, are made only
where the list is read: in the API server.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

from include.console import PREFIX


class TrainingConsole(AirflowPlugin):
    """What the API server mounts, and where Airflow's UI shows it: in its menu, and as a tab of each run."""

    name = "training_console"

    @cached_property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # made when it is asked for
        """Return two applications. Only the API server asks for them, so it registers the listeners too."""
        from include.api import app as api
        from include.console import app as console
        from include.orchestration import marking

        marking.register()
        return [
            {"name": "Training API", "app": api.create_app(), "url_prefix": api.PREFIX},
            {"name": "Training console", "app": console.create_app(), "url_prefix": console.PREFIX},
        ]

    @cached_property
    def fastapi_root_middlewares(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Return what guards all of the API server."""
        from include.api.addresses import PREFIX as API
        from include.serving.bodies import WEIGHTS
        from include.serving.server import root_middlewares

        return root_middlewares({f"{API}/pretrained/": WEIGHTS})

    @cached_property
    def external_views(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """Paths from the root of the server, behind a proxy too: Airflow takes them as they are."""
        path = urlsplit(conf.get("api", "base_url", fallback="/")).path.rstrip("/")
        console = f"{path}{PREFIX}"
        icons = {
            "icon": f"{console}/static/current/icons/training-light.svg",
            "icon_dark_mode": f"{console}/static/current/icons/training-dark.svg",
        }
        return [
            {
                "name": "Trainings",
                "href": f"{console}/jobs",
                "url_route": "trainings",
                "destination": "nav",
                "nav_top_level": True,
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

"""The stack without Airflow's scheduling processes: enough for API and pages, with little processor time."""

from __future__ import annotations

import subprocess
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from include.stack.airflow import Airflow
from include.stack.local import Stack

if TYPE_CHECKING:
    from include.stack.processes import Service
    from include.stack.steps import Steps


class ApiServer(Airflow):
    """Airflow with its API server as the only process."""

    @cached_property
    def services(self) -> tuple[Service, ...]:
        return tuple(each for each in super().services if each.name == "api-server")

    def load_dags(self) -> None:
        """Serialize the Dags once, which is otherwise the Dag processor's work."""
        (server,) = self.services
        program = Path(server.command[0])
        subprocess.run(
            [program, "dags", "reserialize"],
            env=dict(server.environment),
            cwd=server.directory,
            capture_output=True,
            check=True,
        )


class ApiStack(Stack):
    """PostgreSQL, S3 and the API server with the repository's Dags; a triggered run stays queued for ever."""

    @property
    def airflow(self) -> ApiServer:
        return ApiServer(**vars(super().airflow))

    def up(self, steps: Steps) -> None:
        was_running = self.airflow.running()
        super().up(steps)
        if not was_running:
            self.airflow.load_dags()

"""The stack without the parts that schedule: all that API and pages need, for little processor time."""

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
    """Airflow's API server alone."""

    @cached_property
    def services(self) -> tuple[Service, ...]:
        return tuple(each for each in super().services if each.name == "api-server")

    def load_dags(self) -> None:
        """Do once what the Dag processor does again and again."""
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
    """PostgreSQL, S3 and the API server, which knows the repository's Dags. A run stays queued for ever."""

    @property
    def airflow(self) -> ApiServer:
        return ApiServer(**vars(super().airflow))

    def up(self, steps: Steps) -> None:
        was_running = self.airflow.running()
        super().up(steps)
        if not was_running:
            self.airflow.load_dags()

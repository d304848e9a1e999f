"""The stack without Airflow's scheduling processes: enough for API and pages, with little processor time."""

from __future__ import annotations

import subprocess
import sys
from functools import cached_property
from typing import TYPE_CHECKING

from include.stack.airflow import Airflow
from include.stack.local import Stack

if TYPE_CHECKING:
    from include.stack.processes import Service

_TABLES_AND_DAGS = """
from airflow.cli.cli_parser import get_parser
for command in ["db", "migrate"], ["dags", "reserialize"]:
    arguments = get_parser().parse_args(command)
    arguments.func(arguments)
"""


class ApiServer(Airflow):
    """Airflow with its API server as the only process."""

    @cached_property
    def services(self) -> tuple[Service, ...]:
        return tuple(each for each in super().services if each.name == "api-server")

    def migrate(self) -> bool:
        """Create the tables, and serialize the Dags once, which is otherwise the Dag processor's work.

        One process does both, because it takes seconds to import Airflow.
        """
        if self.is_migrated():
            return False
        subprocess.run(
            [sys.executable, "-c", _TABLES_AND_DAGS],
            env=self.build_environment("api-server"),
            cwd=self.home,
            capture_output=True,
            check=True,
        )
        self._stamp.touch()
        return True


class ApiStack(Stack):
    """PostgreSQL, S3 and the API server with the repository's Dags; a triggered run stays queued for ever."""

    @property
    def airflow(self) -> ApiServer:
        return ApiServer(**vars(super().airflow))

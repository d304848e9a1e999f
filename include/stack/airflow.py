"""Airflow as four processes: API server, scheduler with LocalExecutor, Dag processor and triggerer."""

from __future__ import annotations

import configparser
import io
import json
import os
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import requests

from include.stack import processes
from include.stack.errors import StackError, read_last_lines
from include.stack.gpus import count_gpu_slots
from include.stack.ports import LOOPBACK, exempt_from_proxies, open_session
from include.stack.private_files import UMASK, make_private_folder, write_private
from include.stack.processes import Service
from include.stack.state import USERNAME

if TYPE_CHECKING:
    from include.stack.connections import Connections, Part
    from include.stack.state import Credentials

REPOSITORY = Path(__file__).resolve().parents[2]
START_SECONDS = 180.0
OTHER_TASKS = 5
"""Number of tasks that can run in addition to one training run on each GPU."""
TASK_STOP_SECONDS = 120.0
"""Running tasks are killed this long after the stop signal; training runs save their state before that."""

DATABASE_RETRIES = 30
"""Number of times that the scheduler repeats a query, in one to two minutes. With Airflow's default of 3, the
scheduler ends if PostgreSQL restarts."""

PARTS: Mapping[Part, Sequence[str]] = {
    "api-server": (),
    "dag-processor": (),
    # These two parts would serve their logs on every network interface; the API server reads the log files
    # directly.
    "triggerer": ("--skip-serve-logs",),
    "scheduler": ("--skip-serve-logs",),
}

INTERVALS: Mapping[str, Mapping[str, object]] = {
    # If a training run loses its supervisor, Airflow notices after half a minute (the timeout plus the
    # detection interval), instead of five minutes. If the scheduler dies, its training runs count as orphaned
    # after 30 seconds without a heartbeat from the scheduler.
    "scheduler": {
        "task_instance_heartbeat_sec": 5,
        "task_instance_heartbeat_timeout": 30,
        "task_instance_heartbeat_timeout_detection_interval": 5,
        "orphaned_tasks_check_interval": 15,
        "scheduler_idle_sleep_time": 0.2,
    },
    "workers": {
        # A training run survives minutes without the API server, and soon notices its return.
        "max_failed_heartbeats": 30,
        "execution_api_retry_wait_max": 5,
        # If a task's process is still ending, its supervisor checks again after this interval, and only then
        # reports that the task was skipped, failed or killed.
        "min_heartbeat_interval": 1,
    },
    # A changed Dag file is parsed within seconds; all Dag files are parsed again every minute.
    "dag_processor": {
        "refresh_interval": 10,
        "min_file_process_interval": 60,
        "parsing_processes": 2,
        "print_stats_interval": 600,
    },
}
"""Sections of airflow.cfg that decide how soon Airflow notices a change or a death."""


@dataclass(frozen=True)
class Airflow:
    """One Airflow deployment with its PostgreSQL database."""

    state: Path
    """The stack's folder: `airflow/` below it is AIRFLOW_HOME; logs and pid files are there, too."""
    port: int
    """Port of the UI and the REST API on the loopback interface."""
    database_url: str
    """SQLAlchemy URL of Airflow's own database, with its password."""
    credentials: Credentials
    """The stack's secrets; airflow.cfg contains those of Airflow."""
    connections: Connections
    """Which of Airflow's parts and queues get which connections."""
    variables: Mapping[str, str]
    """Environment variables for the Dags, set in every process."""

    @property
    def home(self) -> Path:
        """AIRFLOW_HOME, with configuration and logs."""
        return self.state / "airflow"

    @property
    def url(self) -> str:
        """The URL of the UI and the REST API."""
        return f"http://{LOOPBACK}:{self.port}"

    def configure(self) -> None:
        """Write the configuration and the password of the UI."""
        make_private_folder(self.home)
        parser = configparser.ConfigParser(interpolation=None)
        # Airflow takes a single % for the beginning of a reference to another setting.
        parser.read_dict(
            {
                section: {name: str(value).replace("%", "%%") for name, value in settings.items()}
                for section, settings in self._build_settings().items()
            }
        )
        text = io.StringIO()
        parser.write(text)
        write_private(self.home / "airflow.cfg", text.getvalue())
        write_private(self._passwords_file, json.dumps({USERNAME: self.credentials.airflow_password}))

    def migrate(self) -> bool:
        """Migrate Airflow's own database to the installed version; return False if it was up to date."""
        current = version("apache-airflow-core")
        if self.is_migrated() and self._stamp.read_text() == current:
            return False
        self.run_command("db", "migrate")
        self._stamp.write_text(current)
        return True

    def run_command(self, *command: str, **environment: str) -> None:
        """Run `airflow COMMAND` with additional environment variables. Raises StackError if it fails."""
        log = self.state / "logs" / f"airflow-{'-'.join(command)}.log"
        with log.open("w") as output:
            finished = subprocess.run(
                [self.program, *command],
                env=self.environment | environment,
                cwd=self.home,
                stdout=output,
                stderr=subprocess.STDOUT,
                umask=UMASK,
                check=False,
            )
        if finished.returncode:
            raise StackError(
                f"`airflow {' '.join(command)}` failed. Its log is {log} and ends with:\n"
                f"{read_last_lines(log)}"
            )

    def is_migrated(self) -> bool:
        """Return whether Airflow's own database has its tables, whatever their version."""
        return self._stamp.exists()

    def forget_migration(self) -> None:
        """Let the next `migrate` create the tables: the database is about to be created."""
        self._stamp.unlink(missing_ok=True)

    def start(self) -> bool:
        """Start all parts and wait until they are healthy. Returns False if all were already running."""
        before = [processes.find_process(service) for service in self.services]
        *others, scheduler = self.services
        # The scheduler comes last: the tasks that it starts would fail without the API server.
        for services in (others, [scheduler]):
            for service in services:
                processes.start(service)
            for service in services:
                processes.wait_until_ready(service, partial(self._is_healthy, service.name), START_SECONDS)
        return before != [processes.find_process(service) for service in self.services]

    def stop(self) -> bool:
        """Stop all parts. Returns False if none was running.

        The scheduler stops first, with its tasks: a training run needs the API server while it makes its
        state durable.
        """
        *others, scheduler = self.services
        stopped = [processes.stop(scheduler), processes.stop(*others)]
        return any(stopped)

    def is_listening(self) -> bool:
        """Return whether the part that listens on the port is running."""
        [server] = [service for service in self.services if service.name == "api-server"]
        return processes.find_process(server) is not None

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment that all processes share; each also gets its own connections."""
        inherited = processes.build_base_environment(
            "AIRFLOW", "AWS_", "CHECKPOINT_BUCKET", "PG", "S3_", "STACK_", "TRAINING_ROOT", "YOLO_"
        )
        own = {
            "AIRFLOW_HOME": str(self.home),
            "PYTHONPATH": str(REPOSITORY),
            "PATH": f"{self._scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        }
        return inherited | exempt_from_proxies(inherited) | own | dict(self.variables)

    def build_environment(self, part: Part) -> dict[str, str]:
        """Return the complete environment of the part's process."""
        return self.environment | self.connections.build_environment(part)

    @cached_property
    def services(self) -> tuple[Service, ...]:
        """The processes of all parts, in the order in which they start."""
        return tuple(
            Service(
                name=name,
                command=(self.program, name, *options),
                environment=self.build_environment(name),
                directory=self.home,
                state=self.state,
                stop_seconds=TASK_STOP_SECONDS if name == "scheduler" else processes.STOP_SECONDS,
                # LocalExecutor's workers pass the signal on to their tasks; the scheduler itself does not.
                stops_children=name == "scheduler",
            )
            for name, options in PARTS.items()
        )

    @property
    def _scripts(self) -> str:
        return sysconfig.get_path("scripts")

    @property
    def program(self) -> str:
        """The command `airflow`."""
        return str(Path(self._scripts) / "airflow")

    @property
    def _stamp(self) -> Path:
        return self.home / "migrated"

    @property
    def _passwords_file(self) -> Path:
        return self.home / "passwords.json"

    def _build_settings(self) -> dict[str, Mapping[str, object]]:
        return {
            "core": {
                "dags_folder": REPOSITORY / "dags",
                "plugins_folder": REPOSITORY / "plugins",
                "executor": "include.stack.executor.QueueExecutor",
                "parallelism": OTHER_TASKS + count_gpu_slots(),
                "load_examples": False,
                "dags_are_paused_at_creation": False,
                "fernet_key": self.credentials.airflow_fernet_key,
                "simple_auth_manager_users": f"{USERNAME}:admin",
                "simple_auth_manager_passwords_file": self._passwords_file,
            },
            "database": {"sql_alchemy_conn": self.database_url, "max_db_retries": DATABASE_RETRIES},
            "api": {
                "host": LOOPBACK,
                "port": self.port,
                "base_url": self.url,
                "workers": 1,
                "secret_key": self.credentials.airflow_secret_key,
            },
            "api_auth": {"jwt_secret": self.credentials.airflow_jwt_secret},
            "logging": {"base_log_folder": self.home / "logs"},
            "usage_data_collection": {"enabled": False},
            **INTERVALS,
        }

    def _is_healthy(self, part: str) -> bool:
        try:
            with open_session() as session:
                address = f"{self.url}/api/v2/monitor/health"
                health: dict[str, Any] = session.get(address, timeout=10).json()
        except (requests.RequestException, ValueError):
            return False
        reported = health.get(part.replace("-", "_"), {})
        return part == "api-server" or reported.get("status") == "healthy"

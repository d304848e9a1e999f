"""The whole local stack: PostgreSQL, S3 and Airflow, with their data in one folder."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from include.deployment.settings import DEFAULT_BUCKET, GPU_POOL
from include.stack import ports, processes
from include.stack.airflow import REPOSITORY, TASK_STOP_SECONDS, Airflow
from include.stack.airflow_api import AirflowApi
from include.stack.connections import assign_connections
from include.stack.errors import StackError
from include.stack.gpus import count_gpu_slots, trains_on_cpu
from include.stack.model_keys import ModelKeys
from include.stack.ports import LOOPBACK
from include.stack.postgres import TRAINING_APPLICATION, TRAINING_OWNER, Postgres
from include.stack.processes import Service
from include.stack.restarts import History
from include.stack.s3 import S3
from include.stack.state import USERNAME, StackPorts, StateFolder, StoppingState

if TYPE_CHECKING:
    from include.stack.state import Credentials
    from include.stack.steps import Steps

STATE = REPOSITORY / ".stack"


@dataclass(frozen=True)
class Stack:
    """The services of one state folder, running or not.

    Credentials and ports are chosen and stored on first use.
    """

    state: StateFolder
    """The folder with everything that the stack stores."""
    postgres_settings: Mapping[str, str] = field(default_factory=dict)
    """Parameters of postgresql.conf."""
    buckets: Sequence[str] = (DEFAULT_BUCKET,)
    """The buckets that S3 roles other than the owner may use; the names may contain `*`."""

    @classmethod
    def at(
        cls,
        path: Path,
        postgres_settings: Mapping[str, str] | None = None,
        buckets: Sequence[str] = (DEFAULT_BUCKET,),
    ) -> Stack:
        """Return the stack whose state is in the folder `path`, which is created if necessary."""
        state = StateFolder(path)
        state.prepare()
        return cls(state, postgres_settings or {}, buckets)

    @cached_property
    def credentials(self) -> Credentials:
        """The credentials of every service."""
        return self.state.load_credentials()

    @property
    def ports(self) -> StackPorts:
        """The ports of every service."""
        return self.state.load_ports()

    @property
    def postgres(self) -> Postgres:
        """The server of the two databases, `airflow` and `training`."""
        return Postgres(
            state=self.state.path,
            identity=self.credentials.identity,
            port=self.ports.postgres,
            password=self.credentials.postgres_password,
            roles={
                "airflow": self.credentials.airflow_db_password,
                TRAINING_OWNER: self.credentials.training_db_password,
                TRAINING_APPLICATION: self.credentials.training_app_db_password,
            },
            settings=self.postgres_settings,
        )

    @property
    def s3(self) -> S3:
        """The server that stores the checkpoints."""
        return S3(self.state.path, self.ports.s3, self.credentials.s3_keys, self.buckets)

    @property
    def model_keys(self) -> ModelKeys:
        """The keys that sign and verify promoted models; the first start creates them."""
        folder = self.state.make_private("model-keys")
        return ModelKeys(folder / "private.pem", folder / "public.pem")

    @property
    def airflow(self) -> Airflow:
        """Airflow, configured for the two servers."""
        database = self.postgres.build_url("airflow", "airflow")
        return Airflow(
            state=self.state.path,
            port=self.ports.airflow,
            database_url=database.replace("postgresql://", "postgresql+psycopg2://", 1),
            credentials=self.credentials,
            connections=assign_connections(self),
            variables={
                "CHECKPOINT_BUCKET": DEFAULT_BUCKET,
                "CPU_WORKER": "true" if trains_on_cpu() else "false",
                "JOB_ADMINISTRATORS": os.environ.get("JOB_ADMINISTRATORS", USERNAME),
                "DATASET_ROOTS": os.environ.get("DATASET_ROOTS", str(self.state.make_private("datasets"))),
                "MODEL_VERIFICATION_KEYS": str(self.model_keys.public),
                "S3_PUBLIC_ENDPOINT_URL": self.s3.endpoint_url,
                "TRAINING_ROOT": str(self.state.make_private("training")),
                "YOLO_CONFIG_DIR": str(self.state.make_private("ultralytics")),
                "YOLO_OFFLINE": "True",
            },
        )

    @property
    def url(self) -> str:
        """The URL of Airflow's UI and REST API."""
        return self.airflow.url

    @property
    def username(self) -> str:
        """The user name for Airflow's UI and REST API."""
        return USERNAME

    @property
    def password(self) -> str:
        """The password for Airflow's UI and REST API."""
        return self.credentials.airflow_password

    @property
    def training_db_url(self) -> str:
        """The URL of the training database, for the role that owns it."""
        return self.postgres.build_url("training", TRAINING_OWNER)

    @property
    def api(self) -> AirflowApi:
        """A client for Airflow's REST API that logs in as `username`."""
        return AirflowApi(self.url, self.username, self.password)

    @property
    def env(self) -> dict[str, str]:
        """The variables that psql, any S3 client, curl and the `airflow` command need.

        They grant the owner's rights: everything that any task may do, and more.
        """
        return {
            "TRAINING_DB_URL": self.training_db_url,
            "S3_ENDPOINT_URL": self.s3.endpoint_url,
            "AWS_ENDPOINT_URL_S3": self.s3.endpoint_url,
            "AWS_ACCESS_KEY_ID": self.s3.access_key,
            "AWS_SECRET_ACCESS_KEY": self.s3.secret_key,
            "AWS_SESSION_TOKEN": "",  # that of other keys, which the shell may have, does not fit these
            **dict.fromkeys(("AWS_REGION", "AWS_DEFAULT_REGION"), self.s3.region),
            "AIRFLOW_URL": self.url,
            "AIRFLOW_USERNAME": self.username,
            "AIRFLOW_PASSWORD": self.password,
            "AIRFLOW_HOME": str(self.airflow.home),
            **self.airflow.variables,
            **self.airflow.connections.collect_task_variables(),
        }

    @property
    def supervisor(self) -> Service:
        """The process that restarts services that have died."""
        settings = json.dumps(dict(self.postgres_settings))
        return Service(
            name="supervisor",
            command=(sys.executable, "-m", "include.stack.supervisor", str(self.state.path), settings),
            environment=processes.build_base_environment() | {"PYTHONPATH": str(REPOSITORY)},
            directory=self.state.path,
            state=self.state.path,
            # The supervisor may be waiting for the training runs of a dead scheduler to save their state.
            stop_seconds=TASK_STOP_SECONDS + processes.STOP_SECONDS,
        )

    def list_supervised(self) -> list[Service]:
        """Return the supervised services, in the order in which they start."""
        return [self.postgres.service, self.s3.service, *self.airflow.services]

    @property
    def restarts(self) -> History:
        """How often services have been restarted."""
        return History(self.state.path / "restarts.json")

    def is_running(self) -> bool:
        """Return whether every service is running."""
        return all(map(processes.find_process, self.list_supervised()))

    def require_running(self) -> None:
        """Raise StackError unless every service is running."""
        if not self.is_running():
            raise StackError("The stack is not running. Start it with `make up`.")

    def up(self, steps: Steps) -> None:
        """Start all services that are not running, and create missing databases, buckets and pools.

        Raises StackError, for example if `make rotate` was interrupted.
        """
        with self.state.lock():
            self.start(steps)

    def start(self, steps: Steps) -> None:
        """Do what `up` does while the caller holds the lock."""
        self.state.check_disk()
        self._start_servers(steps)
        with steps.step("Airflow's own tables") as step:
            self.airflow.configure()
            step.result = "created or updated" if self.airflow.migrate() else "up to date"
        with steps.step("Airflow (API server, scheduler, Dag processor, triggerer)") as step:
            started = self.airflow.start()
            self.api.ensure_pool(
                GPU_POOL, count_gpu_slots(), "One slot per GPU; training runs wait here for a free slot."
            )
            step.result = _describe_start(started, self.url)
        self.restarts.forget()
        processes.start(self.supervisor)

    def start_servers(self, steps: Steps) -> None:
        """Start only PostgreSQL and S3, with their databases and bucket. Raises StackError."""
        with self.state.lock():
            self._start_servers(steps)

    def down(self, steps: Steps) -> None:
        """Stop all services, even if their credentials or ports cannot be read; the data are kept."""
        with self.state.lock():
            self.stop(steps)

    def stop(self, steps: Steps) -> None:
        """Do what `down` does while the caller holds the lock."""
        stopping = replace(self, state=StoppingState(self.state.path))
        processes.stop(stopping.supervisor)
        for title, service in (
            ("Airflow", stopping.airflow),
            ("S3 server", stopping.s3),
            ("PostgreSQL", stopping.postgres),
        ):
            with steps.step(f"Stop {title}") as step:
                step.result = "done" if service.stop() else "it was not running"

    def _start_servers(self, steps: Steps) -> None:
        if self.state.next_credentials_file.exists():
            raise StackError(
                "`make rotate` was interrupted, and some of the new secrets may already be in use. Run "
                "`make rotate` again: it replaces the remaining secrets and starts the stack."
            )
        self.model_keys.prepare()
        self.replace_taken_ports(steps)
        try:
            self._start_databases_and_s3(steps)
        except StackError:
            # Another program, such as another stack, may have taken a port meanwhile.
            if not self.replace_taken_ports(steps):
                raise
            self._start_databases_and_s3(steps)

    def _start_databases_and_s3(self, steps: Steps) -> None:
        with steps.step("PostgreSQL") as step:
            started = self.postgres.start()
            self.postgres.ensure_roles()
            if not self.postgres.has_database("airflow"):  # never created, or its data were removed
                self.airflow.forget_migration()
            self.postgres.ensure_database("airflow", "airflow")
            self.postgres.ensure_database("training", TRAINING_OWNER, TRAINING_APPLICATION)
            step.result = _describe_start(started, f"{LOOPBACK}:{self.ports.postgres}")
        with steps.step("S3 server (SeaweedFS)") as step:
            started = self.s3.start()
            port = self.ports.airflow
            self.s3.ensure_bucket(DEFAULT_BUCKET, [f"http://{LOOPBACK}:{port}", f"http://localhost:{port}"])
            step.result = _describe_start(started, self.s3.endpoint_url)

    def replace_taken_ports(self, steps: Steps) -> bool:
        """Choose other ports if another program has taken one. Returns whether it has."""
        needed: set[int] = set()
        if not self.postgres.is_running():
            needed.add(self.ports.postgres)
        if not self.s3.is_running():
            needed |= self.ports.s3.list_numbers()
        if not self.airflow.is_listening():
            needed.add(self.ports.airflow)
        if not (taken := sorted(port for port in needed if not ports.is_free(port))):
            return False
        steps.say(
            f"Another program now uses a port of this stack ({', '.join(map(str, taken))}). "
            f"Choosing other ports; links and exported variables from earlier starts are out of date."
        )
        # All services must restart, because each one is configured with the ports of the others.
        self.stop(steps)
        self.state.store_ports(StackPorts.choose())
        return True


def _describe_start(was_started: bool, where: str) -> str:
    return f"started on {where}" if was_started else f"already running on {where}"

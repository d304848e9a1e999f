"""Assigns Airflow connections to the processes of the local stack, and to the tasks of some queues.

A task looks for a connection in its own environment, then asks the API server, which looks in its own
environment and in Airflow's database. Therefore a connection that only some tasks may have is set in
the environment of those tasks, and not in that of the API server.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from include.deployment.settings import (
    MAINTENANCE_QUEUE,
    MIGRATION_QUEUE,
    MODEL_SIGNING_KEY,
    PROMOTION_QUEUE,
    TRAINING_AIRFLOW,
    TRAINING_DB,
    TRAINING_DB_OWNER,
    TRAINING_S3,
    TRAINING_S3_MAINTENANCE,
)
from include.stack.ports import LOOPBACK
from include.stack.postgres import TRAINING_APPLICATION, TRAINING_OWNER
from include.stack.s3_identities import Role

if TYPE_CHECKING:
    from include.stack.local import Stack

Part = Literal["api-server", "dag-processor", "triggerer", "scheduler"]
"""A process of Airflow, named after the command that starts it."""

Connection = Mapping[str, object]
"""One connection in Airflow's JSON format."""

QUEUE_CONNECTIONS = "STACK_QUEUE_CONNECTIONS"
"""Environment variable that tells the scheduler, as JSON, which variables each queue's tasks get."""


@dataclass(frozen=True)
class Connections:
    """The connections of Airflow's parts and queues.

    The scheduler's executor runs the tasks, so a task has the scheduler's connections and those of the task's
    queue.
    """

    parts: Mapping[Part, Mapping[str, Connection]]
    """The connections of each part, by connection id."""
    queues: Mapping[str, Mapping[str, Connection]]
    """The connections that each queue adds, by connection id."""

    def build_environment(self, part: Part) -> dict[str, str]:
        """Return the environment variables that give the part its connections."""
        own = as_variables(self.parts[part])
        if part != "scheduler":
            return own
        queues = {queue: as_variables(connections) for queue, connections in self.queues.items()}
        return own | {QUEUE_CONNECTIONS: json.dumps(queues)}

    def collect_task_variables(self) -> dict[str, str]:
        """Return the variables for every connection that a task may have, whatever its queue."""
        variables = as_variables(self.parts["scheduler"])
        for connections in self.queues.values():
            variables |= as_variables(connections)
        return variables


def as_variables(connections: Mapping[str, Connection]) -> dict[str, str]:
    """Return the environment variables in which Airflow looks for these connections."""
    return {f"AIRFLOW_CONN_{name.upper()}": json.dumps(found) for name, found in connections.items()}


def assign_connections(stack: Stack) -> Connections:
    """Return the connections that each part and each queue of this stack gets."""
    secret = stack.credentials
    training_db = _describe_database(stack, TRAINING_APPLICATION, secret.training_app_db_password)
    owner = _describe_database(stack, TRAINING_OWNER, secret.training_db_password)
    training_airflow = {
        "conn_type": "http",
        "host": f"http://{LOOPBACK}:{stack.ports.airflow}",
        "login": stack.username,
        "password": secret.airflow_password,
    }
    signing_key = {"conn_type": "generic", "extra": {"path": str(stack.model_keys.private)}}
    return Connections(
        parts={
            "api-server": {TRAINING_DB: training_db, TRAINING_S3: _describe_s3(stack, Role.API)},
            # The Dag processor records the failure of runs whose process was killed.
            "dag-processor": {TRAINING_DB: training_db},
            # Triggers read the rows of jobs that other runs wait for.
            "triggerer": {TRAINING_DB: training_db},
            "scheduler": {
                TRAINING_DB: training_db,
                TRAINING_S3: _describe_s3(stack, Role.WORKER),
                TRAINING_AIRFLOW: training_airflow,
            },
        },
        queues={
            MIGRATION_QUEUE: {TRAINING_DB_OWNER: owner},
            PROMOTION_QUEUE: {MODEL_SIGNING_KEY: signing_key},
            MAINTENANCE_QUEUE: {TRAINING_S3_MAINTENANCE: _describe_s3(stack, Role.MAINTENANCE)},
        },
    )


def _describe_database(stack: Stack, role: str, password: str) -> Connection:
    return {
        "conn_type": "postgres",
        "host": LOOPBACK,
        "port": stack.ports.postgres,
        "login": role,
        "password": password,
        "schema": "training",
    }


def _describe_s3(stack: Stack, role: Role) -> Connection:
    keys = stack.s3.keys[role]
    return {
        "conn_type": "aws",
        "login": keys.access_key,
        "password": keys.secret_key,
        "extra": {"endpoint_url": stack.s3.endpoint_url, "region_name": stack.s3.region},
    }

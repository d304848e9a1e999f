"""What Airflow knows of a Dag run."""

from __future__ import annotations

from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowRuntimeError

if TYPE_CHECKING:
    from uuid import UUID


def is_running(dag_id: str, run_id: str) -> bool:
    """Whether Airflow has the run queued or running; False too where somebody deleted it.

    Any other error leaves the question open, and is raised. Call it in a task or a trigger.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    try:
        return RuntimeTaskInstance.get_dagrun_state(dag_id, run_id) in {"queued", "running"}
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") == HTTPStatus.NOT_FOUND:
            return False
        raise


def creation_of(task_instance_id: UUID) -> datetime:
    """Return when Airflow made the task instance: with its run, or when it was cleared.

    Airflow starts trainings in the order in which their runs were made, and tells tasks no other time of it:
    a run's own dates can be chosen by whoever triggers it. Its ids are UUIDs of version 7 (RFC 9562), which
    begin with the milliseconds since 1970.
    """
    return datetime.fromtimestamp(int.from_bytes(task_instance_id.bytes[:6]) / 1000, UTC)

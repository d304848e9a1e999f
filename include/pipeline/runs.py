"""What Airflow knows of a Dag run."""

from __future__ import annotations

from http import HTTPStatus

from airflow.sdk.exceptions import AirflowRuntimeError


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

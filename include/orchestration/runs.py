"""Asks Airflow about Dag runs."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.sdk.exceptions import AirflowRuntimeError

from include.audit.liveness import find_live

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from airflow.sdk import Context

    from include.audit.liveness import LiveRuns

T = TypeVar("T")

ACTIVE = ("queued", "running")
"""Airflow's states of a run that has not ended."""


def is_running(dag_id: str, run_id: str) -> bool:
    """Return whether the run is queued or running; a deleted run is neither.

    Raises any error of the API server except 404. Call this function only in a task or a trigger.
    """
    from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

    return _unless_missing(lambda: RuntimeTaskInstance.get_dagrun_state(dag_id, run_id)) in ACTIVE


def find_conf(dag_id: str, run_id: str) -> dict[str, Any] | None:
    """Return the conf of the run; None if there is no such run.

    Raises any error of the API server except 404. Call this function only in a task.
    """
    from airflow.sdk.execution_time.comms import DagRunResult, GetDagRun
    from airflow.sdk.execution_time.task_runner import SUPERVISOR_COMMS

    run = _unless_missing(lambda: SUPERVISOR_COMMS.send(GetDagRun(dag_id=dag_id, run_id=run_id)))
    return (run.conf or {}) if isinstance(run, DagRunResult) else None


def _unless_missing(ask: Callable[[], T]) -> T | None:
    """Return the API server's answer; None if it is 404."""
    try:
        return ask()
    except AirflowRuntimeError as error:
        if (error.error.detail or {}).get("status_code") == HTTPStatus.NOT_FOUND:
            return None
        raise


def build_live_runs(context: Context) -> LiveRuns:
    """Return a function that asks Airflow which of the given runs are queued or running."""
    ti = context["ti"]

    def count(dag_id: str, run_ids: Sequence[str]) -> int:
        return int(ti.get_dr_count(dag_id, run_ids=list(run_ids), states=list(ACTIVE)))

    return partial(find_live, count=count)


def find_creation(task_instance_id: UUID, run_started_at: datetime | None) -> datetime:
    """Return when Airflow created the run; after the run was cleared, about when that happened.

    Airflow starts `train` in the order in which the runs were created. Tasks cannot read that time, and most
    dates that they can read may have been chosen by the user who triggered the run. But the id of a task
    instance is a UUID of version 7 (RFC 9562). It starts with the time of its creation, in milliseconds since
    1970. Each retry gets a new id. After a retry, the time at which the run last started is returned: the run
    was created or cleared moments before.
    """
    created_at = datetime.fromtimestamp(int.from_bytes(task_instance_id.bytes[:6]) / 1000, UTC)
    return min(created_at, run_started_at or created_at)

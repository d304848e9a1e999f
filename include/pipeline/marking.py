"""A run or task of `train_yolo` that somebody marks in Airflow: the job's row says so within seconds.

No callback is called for that, but listeners are, in the API server. Only there this module is registered:
elsewhere Airflow's own processes would wait for the training database.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl

from include.jobs.repository import JobRepository
from include.pipeline.connections import training_db
from include.pipeline.patience import patiently
from include.pipeline.settings import TRAINING_DAG

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger(__name__)

_GOES_ON = (
    "What was durable stays: clear train with all after it, or trigger the job again; it goes on from there"
)


def listen() -> None:
    """Have Airflow tell this process, the API server, what is marked."""
    from airflow.listeners.listener import get_listener_manager

    listeners = get_listener_manager()
    listeners.add_listener(sys.modules[__name__])  # type: ignore[no-untyped-call]


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Somebody has marked a run as failed."""
    _record(dag_run, f"The run was marked as failed by hand. {_GOES_ON}.")


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Somebody has marked a run as a success: unless its checkpoints are recorded, the job is none."""
    _record(
        dag_run, f"The run was marked as success by hand, before its checkpoints were recorded. {_GOES_ON}."
    )


@hookimpl
def on_task_instance_failed(task_instance: Any) -> None:
    """Somebody has marked a task as failed, which ends its run."""
    _record(task_instance, f"Task {task_instance.task_id} was marked as failed by hand. {_GOES_ON}.")


def _record(marked: Any, reason: str) -> None:
    """Write the reason, in a thread: the request, and Airflow's transaction, do not wait for our database."""
    if marked.dag_id == TRAINING_DAG:
        threading.Thread(
            target=_write, args=(marked.dag_id, marked.run_id, reason), name="marked", daemon=True
        ).start()


def _write(dag_id: str, run_id: str, reason: str) -> None:
    def write() -> str | None:
        with training_db() as connection:
            return JobRepository(connection).fail_run(dag_id, run_id, reason)

    try:
        job_id = patiently(write)
    except Exception:
        log.exception("Run %s was marked by hand, which could not be recorded.", run_id)
    else:
        log.info("Run %s was marked by hand: job %s.", run_id, job_id or "was over already")

"""Records in the job's row that a user marked or deleted a run of `train_yolo`, or marked a task as failed.

Airflow calls no callback in these cases. When users mark runs and tasks, Airflow calls listeners in the API
server. The deletion of a run is visible only in Airflow's database session; the deletion of a whole Dag is
not visible at all. This module is registered only in the API server, because the scheduler must not wait for
the training database.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Any

from airflow.listeners import hookimpl
from sqlalchemy import event
from sqlalchemy.orm import Session, object_session

from include.attempt.tracking import track_recorded
from include.deployment.connections import open_training_db, prepare_training_db
from include.deployment.retrying import retry_while_unavailable
from include.jobs.job import TRAINING_DAG
from include.jobs.repository import JobRepository

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun

log = logging.getLogger(__name__)

_HOW_TO_RESUME = (
    "Its durable state is kept: clear train and everything downstream, or trigger the job again, to resume"
)

_AFTER_RUN_SECONDS = 2.0
"""When a user marks a run as failed, Airflow also fails its running tasks, and calls the listeners for the
tasks first. This delay ensures that the recorded reason is the one about the run, not one about a task."""

_PENDING: dict[tuple[str, str], list[threading.Timer]] = {}
"""Timers that will record marked tasks, by Dag and run. They are cancelled if the run itself is marked."""

_DELETED = "training.deleted_runs"
"""Key in a session's `info`; the value lists the runs that the transaction has deleted."""


def register() -> None:
    """Register the listeners in this process, the API server."""
    from airflow.listeners.listener import get_listener_manager
    from airflow.models.dagrun import DagRun

    listeners = get_listener_manager()
    listeners.add_listener(sys.modules[__name__])  # type: ignore[no-untyped-call]
    _watch_deletions(DagRun)


@hookimpl
def on_dag_run_failed(dag_run: DagRun, msg: str) -> None:
    """Record that a user marked a run as failed."""
    _record(dag_run, f"The run was marked as failed by hand. {_HOW_TO_RESUME}.")


@hookimpl
def on_dag_run_success(dag_run: DagRun, msg: str) -> None:
    """Record that a user marked a run as success, unless the job's checkpoints are already recorded."""
    _record(
        dag_run,
        f"The run was marked as success by hand, before its checkpoints were recorded. {_HOW_TO_RESUME}.",
    )


@hookimpl
def on_task_instance_failed(task_instance: Any) -> None:
    """Record that a user marked a task as failed, which ends its run."""
    reason = f"Task {task_instance.task_id} was marked as failed by hand. {_HOW_TO_RESUME}."
    _record(task_instance, reason, _AFTER_RUN_SECONDS)


def _watch_deletions(runs: type[Any]) -> None:
    """Listen to database sessions that delete runs; `runs` is Airflow's DagRun class."""
    event.listen(runs, "after_delete", _on_deletion)
    event.listen(Session, "after_commit", _on_commit)
    event.listen(Session, "after_rollback", _on_rollback)


def _on_deletion(_mapper: object, _connection: object, deleted: DagRun) -> None:
    """Remember, until the commit, that a user deleted a run.

    Airflow does not let users delete active runs.
    """
    session = object_session(deleted)
    if session is not None:
        session.info.setdefault(_DELETED, []).append(deleted)


def _on_commit(session: Session) -> None:
    """Record in the jobs' rows that their runs were deleted."""
    reason = "The run was deleted in Airflow. Its durable state is kept: trigger the job again to resume"
    for deleted in session.info.pop(_DELETED, ()):
        _record(deleted, f"{reason}.")


def _on_rollback(session: Session) -> None:
    session.info.pop(_DELETED, None)


def _record(marked: Any, reason: str, seconds: float = 0) -> None:
    """Write the reason in a thread, so that the request does not wait for the training database.

    If `seconds` is given, the thread first waits that long. If the run itself is marked in the meantime, the
    thread writes nothing.
    """
    if marked.dag_id == TRAINING_DAG:
        run = marked.dag_id, marked.run_id
        write = threading.Timer(seconds, _write, (*run, reason))
        write.daemon = True
        if seconds:
            _PENDING.setdefault(run, []).append(write)
        else:
            for pending in _PENDING.pop(run, ()):
                pending.cancel()
        write.start()


def _write(dag_id: str, run_id: str, reason: str) -> None:
    _PENDING.pop((dag_id, run_id), None)

    def write() -> str | None:
        with open_training_db() as connection:
            return JobRepository(connection).fail_run(dag_id, run_id, reason)

    try:
        job_id = retry_while_unavailable(write)
    except Exception:
        log.exception("Run %s was marked or deleted by hand, but that could not be recorded.", run_id)
    else:
        log.info("Run %s was marked or deleted by hand: job %s.", run_id, job_id or "had already ended")
        if job_id is not None:
            track_recorded(job_id, prepare_training_db())

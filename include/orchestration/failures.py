"""Handles failures: writes one sentence to the log and the job's row, and stops retries that cannot help."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowFailException

from include.errors import FinalError, OwnershipLost
from include.plain_text import escape_controls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

    from include.jobs.repository import JobRepository

log = logging.getLogger(__name__)

REFUSAL = "refusal"
"""Key of the XCom in which `keep_refusal` stores the error message."""

_TASK_CALLBACK_SECONDS = 10.0
"""Airflow kills a task's process 20 seconds after the task reaches its final state
(`task_success_overtime`)."""

_DAG_CALLBACK_SECONDS = 30.0
"""The Dag processor allows 50 seconds for a file and its callbacks (`dag_file_processor_timeout`)."""

_FAILED_BY_AIRFLOW = (
    "Airflow failed this task, and its process did not report why. Either no worker took the task from its "
    "queue in time, or the process and its supervisor died and no retries were left; the run's audit log in "
    "Airflow says which. Make sure that a worker of the task's queue is running, then clear the task with "
    "its downstream tasks, or trigger the job again."
)

_CLEARED_ALONE = (
    "The run ended without recording the checkpoints: a task was cleared without the tasks after it, or was "
    "marked by hand as success or skipped. Clear train with its downstream tasks."
)


@contextmanager
def no_retry() -> Iterator[None]:
    """Turn a FinalError into a final failure of the task, with the same message."""
    try:
        yield
    except FinalError as error:
        raise AirflowFailException(escape_controls(str(error))) from error


@contextmanager
def keep_refusal(context: Context) -> Iterator[None]:
    """Do the same as `no_retry`, and push the message as an XCom, from which our API reads it.

    Airflow's REST API does not say why a task failed.
    """
    with no_retry():
        try:
            yield
        except FinalError as error:
            context["ti"].xcom_push(key=REFUSAL, value=escape_controls(str(error)))
            raise


@contextmanager
def record_final_failure(context: Context) -> Iterator[None]:
    """Do the same as `no_retry`, and write the reason for a final failure into the run's row.

    The task waits up to 15 minutes for the database; a failure callback would have only seconds. If the
    database is still unavailable then, the task fails with the database's error and is retried.
    """
    from include.deployment.retrying import retry_while_unavailable

    try:
        with no_retry():
            yield
    except AirflowFailException as failure:
        error = failure.__cause__ or failure
        if _concerns_this_attempt(error):
            reason = _explain(context, error)
            retry_while_unavailable(lambda: _write(context, reason, again=True))
        raise


def record_task_failure(context: Context) -> None:
    """Write why the task failed into the row that its run owns (a task callback, after the last retry).

    There is no exception if Airflow itself fails the task. Airflow then calls this in the Dag processor.
    """
    error = context.get("exception")
    if not isinstance(error, BaseException):
        _record(context, f"{context['ti'].task_id}: {_FAILED_BY_AIRFLOW}", _TASK_CALLBACK_SECONDS)
    elif _concerns_this_attempt(error.__cause__):
        _record(context, _explain(context, error), _TASK_CALLBACK_SECONDS, again=True)


def record_run_failure(context: Context) -> None:
    """Record that the run failed (a Dag callback, because Airflow calls no task callback after a SIGKILL).

    Does nothing if the task has already recorded its own reason, because the job is then no longer active.
    """
    if "ti" not in context:  # no task has failed: the tasks after the cleared one are still upstream_failed
        _record(context, _CLEARED_ALONE, _DAG_CALLBACK_SECONDS)
        return
    _record(
        context,
        f"The run failed, and no task recorded why ({context.get('reason', 'unknown')}). Most likely, a "
        "process was killed because memory ran out, or a machine failed. See the log of the failed task, "
        "then clear that task with its downstream tasks, or trigger the job again.",
        _DAG_CALLBACK_SECONDS,
    )


def record_unfinished_run(context: Context) -> None:
    """Record a failure if a run succeeded without recording its checkpoints (a Dag callback on success)."""
    _record(context, _CLEARED_ALONE, _DAG_CALLBACK_SECONDS)


def require_one_row(cursor: Any) -> list[tuple[Any, ...]]:
    """Return the single row of `record_checkpoints` (a handler for TrainingSqlOperator).

    Raises AirflowFailException for any other number of rows.
    """
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    if len(rows) != 1:
        raise AirflowFailException(
            f"record_checkpoints wrote {len(rows)} rows instead of one: the job's row is gone, another run "
            "owns it now, or its last.pt was deleted (last_checkpoint_expired_at). All checkpoints that were "
            "not deleted are in S3; look at the row in training_jobs before you clear this task."
        )
    return rows


def _concerns_this_attempt(error: BaseException | None) -> bool:
    """Return False if the error shows that the row no longer belongs to this attempt."""
    return not isinstance(error, OwnershipLost)


def _explain(context: Context, error: BaseException) -> str:
    # The error may quote names of a user's files and classes, which may contain control characters.
    return escape_controls(f"{context['ti'].task_id}: {str(error).strip() or type(error).__name__}")


def _record(context: Context, reason: str, seconds: float, *, again: bool = False) -> None:
    """Write the reason, with retries for up to `seconds` while the database is unavailable.

    If the database stays unavailable, the next run or the audit corrects the row. If the database hangs, an
    attempt takes up to 30 seconds, and Airflow may kill the process in the meantime. A shorter limit would
    not help, because a database that hangs cannot store the reason anyway.
    """
    from include.attempt.tracking import track_recorded
    from include.deployment.connections import prepare_training_db
    from include.deployment.retrying import retry_while_unavailable

    recorded = retry_while_unavailable(lambda: _write(context, reason, again=again), seconds)
    if recorded is not None:
        track_recorded(recorded, prepare_training_db())


def _write(context: Context, reason: str, *, again: bool) -> str | None:
    """Write the reason into the row that the run owns, or into the queued row that no run owns yet."""
    from include.deployment.connections import open_training_db
    from include.jobs.repository import JobRepository

    with open_training_db() as connection:
        jobs = JobRepository(connection)
        recorded = jobs.fail_run(
            context["dag"].dag_id, context["run_id"], reason, again=again, attempt=_find_attempt(context)
        )
        if recorded is None:
            recorded = _refuse_requested_job(context, reason, jobs)
    if recorded is not None:
        log.info("Recorded the failure of job %s: %s", recorded, reason)
    return recorded


def _find_attempt(context: Context) -> int | None:
    """Return the number of the attempt at training that failed; None if another task or the run failed."""
    ti = context.get("ti")
    return ti.try_number if ti is not None and ti.task_id == "train" else None


def _refuse_requested_job(context: Context, reason: str, jobs: JobRepository) -> str | None:
    """Write the reason into the queued row that the run's conf names and no run owns; return its job's id."""
    from include.claim.ownership import refuse_waiting_job
    from include.deployment.settings import read_ownership

    run = context.get("dag_run")  # missing in a Dag callback for which Airflow names no task
    requested = (run.conf or {}).get("job_id") if run is not None else None
    if run is None or not isinstance(requested, str):
        return None
    # Only this setting is read: an invalid one may be the failure that is to be recorded.
    refused = refuse_waiting_job(requested, reason, run.triggering_user_name, jobs, read_ownership())
    return requested if refused else None

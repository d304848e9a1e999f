"""How a run fails: one sentence in the log and in the job's row, and no retry of what cannot get better."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.sdk.exceptions import AirflowFailException

from include.plain_text import escape_controls
from include.trusted_folders import UntrustedFolder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow.sdk import Context

log = logging.getLogger(__name__)


@contextmanager
def no_retry(*errors: type[Exception]) -> Iterator[None]:
    """Turn `errors`, which another attempt would meet again, into a final failure with the same sentence.

    So does a folder that another account of this machine could have prepared, in every task.
    """
    final: tuple[type[Exception], ...] = (*errors, UntrustedFolder)
    try:
        yield
    except final as error:
        raise AirflowFailException(str(error)) from error


def record_task_failure(context: Context) -> None:
    """Task callback: write the reason into the row that this run owns. Runs when no retry is left."""
    from include.checkpoints.errors import FencedOut
    from include.jobs.repository import OwnershipLost

    task_id = context["ti"].task_id
    error = context.get("exception")
    if isinstance(error, BaseException) and isinstance(error.__cause__, (FencedOut, OwnershipLost)):
        return  # the row tells of another attempt by now
    reason = str(error).strip() if error else ""
    _record(context, f"{task_id}: {reason or type(error).__name__}", again=True)


def record_run_failure(context: Context) -> None:
    """Dag callback: after a final SIGKILL no task callback fires, so the Dag processor records what is known.

    Does nothing where the task has recorded its own reason already: the row is no longer running then.
    """
    _record(
        context,
        f"The run failed and no task could say why ({context.get('reason', 'unknown')}): most likely a "
        "process was killed, for lack of memory or with its machine. See the log of the failed task, then "
        "clear it with all after it, or trigger the job again.",
    )


def record_unfinished_run(context: Context) -> None:
    """Dag callback: a run that succeeded without recording its checkpoints has left its row running."""
    _record(
        context,
        "The run ended without recording the checkpoints: a task was cleared without the tasks after it. "
        "Clear train with its downstream tasks.",
    )


def _record(context: Context, reason: str, *, again: bool = False) -> None:
    from include.jobs.repository import JobRepository
    from include.pipeline.connections import training_database
    from include.pipeline.tracking import track_recorded

    reason = escape_controls(reason)  # it may name files and classes of somebody's data
    open_database = training_database()
    with open_database() as connection:
        recorded = JobRepository(connection).fail_run(
            context["dag"].dag_id, context["run_id"], reason, again=again
        )
    if recorded is not None:
        log.info("Recorded the failure of job %s: %s", recorded, reason)
        track_recorded(recorded, open_database)

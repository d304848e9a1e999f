"""Finding jobs whose row still says queued or running although their run has ended."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.audit.findings import AuditFinding, FindingKind
from include.checkpoints.checkpoint import name_position
from include.database import fetch_rows
from include.jobs.repository import JobRepository

if TYPE_CHECKING:
    from psycopg import Connection

    from include.audit.liveness import LiveRuns

GRACE = timedelta(minutes=5)
"""When a run has just ended, its last task or the Dag's callback may not have updated the row yet."""

_PAGE_ROWS = 500


def find_stuck(
    connection: Connection[Any], live_runs: LiveRuns, now: datetime, *, repair: bool
) -> Iterator[AuditFinding]:
    """Find jobs whose row says queued or running although their run is neither.

    Only rows that have not changed for five minutes are examined. The repair is to record that the job
    failed, and why; its durable state is kept, and the job can be triggered again. A job without a run is not
    stuck: it waits for its first run.
    """
    job_id = ""
    while rows := fetch_rows(
        connection, "list_unfinished_jobs", after=job_id, before=now - GRACE, limit=_PAGE_ROWS
    ):
        job_id = rows[-1].job_id
        live = live_runs([(row.dag_id, row.run_id) for row in rows])
        for row in rows:
            if (row.dag_id, row.run_id) in live:
                continue
            detail = (
                f"The row of job {row.job_id} says {row.status} (updated {row.updated_at:%Y-%m-%d %H:%M}), "
                f"but its run {row.run_id} of {row.dag_id} is not active"
            )
            done = _record_failure(connection, row) if repair else None
            yield AuditFinding(FindingKind.STUCK, detail, row.job_id, repair=done)


def _record_failure(connection: Connection[Any], row: Any) -> str | None:
    state = "the job stored no state"
    if row.durable_epoch is not None:
        state = f"the job's state after {name_position((row.durable_epoch, row.durable_batch or 0))} is in S3"
    error = (
        f"Run {row.run_id} ended without recording why, as happens when all its processes are killed; "
        f"{state}. Clear the run's failed task and all tasks after it, or trigger the job again: it "
        "continues from its newest state in S3, if there is one"
    )
    failed = JobRepository(connection).fail_run(row.dag_id, row.run_id, error)
    return "recorded as failed" if failed else None

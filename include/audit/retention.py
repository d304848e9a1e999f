"""Retention: deleting full states (last.pt with last.previous.pt) that the policy does not keep.

Reports of dataset checks expire by age alone, because repeating a check writes its report again.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, Field, computed_field

from include.audit.report import format_size
from include.audit.request import RetentionPolicy
from include.database import Statements, fetch_rows
from include.s3.client import PARALLEL_REQUESTS
from include.s3.layout import CHECKPOINTS, REPORTS
from include.time_limited_connection import long_transaction

if TYPE_CHECKING:
    from psycopg import Connection

    from include.audit.liveness import LiveRuns
    from include.s3.bucket import Bucket
    from include.s3.listing import ListedObject

log = logging.getLogger(__name__)

SHOWN = 200
"""Maximum number of jobs that the report lists."""

_STATES = {"last.pt", "last.previous.pt"}


class RetentionReport(BaseModel):
    """Figures about the states and reports that were deleted or, in a dry run, would be deleted.

    The task `retain` returns them, without the policy and the list of jobs.
    """

    policy: RetentionPolicy = Field(exclude=True)
    """The policy that was applied."""
    jobs: int = 0
    """Number of jobs whose states are deleted."""
    reports: int = 0
    """Number of deleted reports of dataset checks."""
    objects: int = 0
    """Number of deleted objects (last.pt and last.previous.pt)."""
    bytes: int = 0
    """Total size of the deleted objects."""
    shown: dict[str, int] = Field(default_factory=dict, exclude=True)
    """The jobs that the report lists, with the total size of their deleted objects."""
    _last: str = ""
    """The job of the object that was counted last."""

    def add(self, item: ListedObject) -> None:
        """Count an object; the objects of a job must be added consecutively, as a listing yields them."""
        job_id = item.job_id or ""
        if job_id != self._last:
            self.jobs += 1
            self._last = job_id
        self.objects += 1
        self.bytes += item.size
        if job_id in self.shown or len(self.shown) < SHOWN:
            self.shown[job_id] = self.shown.get(job_id, 0) + item.size

    @computed_field  # type: ignore[prop-decorator]
    @property
    def dry_run(self) -> bool:
        """Whether the states would be deleted, but were not."""
        return self.policy.dry_run

    @computed_field  # type: ignore[prop-decorator]
    @property
    def sentence(self) -> str:
        """One-line summary."""
        verb = "would be deleted (dry run)" if self.dry_run else "were deleted"
        return (
            f"Retention: states of {self.jobs} jobs, {self.objects} objects, {format_size(self.bytes)} "
            f"{verb}. Kept: the newest {self.policy.keep_newest} and the best {self.policy.keep_best} of "
            "each model and dataset, and those of jobs that ended less than "
            f"{self.policy.expire_after_days} days ago."
            + (f" {self.reports} older reports of dataset checks {verb}." if self.reports else "")
        )

    def to_markdown(self) -> str:
        """Return the report as Markdown."""
        lines = ["# Retention", "", self.sentence, ""]
        lines += [f"- {job_id}: {format_size(size)}" for job_id, size in self.shown.items()]
        if self.jobs > len(self.shown):
            lines.append(f"- … and {self.jobs - len(self.shown)} more")
        return "\n".join(lines)


def retain(
    connection: Connection[Any],
    bucket: Bucket,
    policy: RetentionPolicy,
    live_runs: LiveRuns,
    requested_at: datetime,
) -> RetentionReport:
    """Delete the states that the policy does not keep; in a dry run, only report them.

    Ages count until `requested_at`, when the run was triggered: it may have waited for days for a worker, and
    whoever triggered it did not know of any job that has ended since.

    The database chooses the states at the start. A job's row is then marked, unless it has changed, before
    its objects are deleted. So after an interruption, a later run can delete the rest of the marked jobs'
    states. Memory use does not depend on the number of objects and rows. Raises StoreErrors and psycopg's
    errors.
    """
    report = RetentionReport(policy=policy)
    with (
        _choose(connection, policy, requested_at) as chosen,
        ThreadPoolExecutor(PARALLEL_REQUESTS, thread_name_prefix="retention") as threads,
    ):
        for page in bucket.list_pages(CHECKPOINTS):
            states = [item for item in page if item.job_id is not None and item.name in _STATES]
            job_ids = {item.job_id for item in states if item.job_id is not None}
            expiring = _find_expiring(connection, live_runs, chosen, job_ids, dry_run=policy.dry_run)
            expired = [item for item in states if item.job_id in expiring]
            if not policy.dry_run:
                deleted = threads.map(bucket.delete_listed, expired)
                expired = [item for item, was_deleted in zip(expired, deleted, strict=True) if was_deleted]
            for item in expired:
                report.add(item)
    report.reports = _expire_reports(bucket, policy, requested_at)
    return report


def _expire_reports(bucket: Bucket, policy: RetentionPolicy, requested_at: datetime) -> int:
    """Delete the check reports older than `expire_after_days` (not in a dry run), and return their number."""
    oldest = requested_at - timedelta(days=policy.expire_after_days)
    old = (item for item in bucket.list_objects(REPORTS) if item.modified < oldest)
    return sum(policy.dry_run or bucket.delete_listed(item) for item in old)


class _ChosenStates:
    """The jobs whose states the policy does not keep, with their runs and statuses when it chose them.

    They are in a temporary file of this process, because there may be a million. In a temporary table, they
    would be lost behind a pooler such as PgBouncer, where each transaction may get another session, which may
    still have the table of an earlier run with another policy.
    """

    def __init__(self, database: sqlite3.Connection, rows: Iterator[Any]) -> None:
        self._database = database
        database.execute("CREATE TABLE chosen (job_id TEXT PRIMARY KEY, run_id TEXT, status TEXT)")
        database.executemany("INSERT INTO chosen VALUES (?, ?, ?)", rows)

    def select(self, job_ids: Collection[str]) -> dict[str, tuple[str, str]]:
        """Return the run and the status of each of these jobs that was chosen."""
        query = "SELECT * FROM chosen WHERE job_id IN (SELECT value FROM json_each(?))"
        found = self._database.execute(query, [json.dumps(list(job_ids))])
        return {job_id: (run_id, status) for job_id, run_id, status in found}


@contextmanager
def _choose(
    connection: Connection[Any], policy: RetentionPolicy, requested_at: datetime
) -> Iterator[_ChosenStates]:
    """Let the database choose the jobs whose states the policy does not keep."""
    values = policy.model_dump(include={"keep_newest", "keep_best", "expire_after_days"})
    with closing(sqlite3.connect("")) as database:  # "" is a temporary file, removed when it is closed
        with long_transaction(connection):  # the query may rank a million rows
            rows = Statements(connection).stream(
                "choose_expiring_states", requested_at=requested_at, **values
            )
            chosen = _ChosenStates(database, rows)
        yield chosen


def _find_expiring(
    connection: Connection[Any],
    live_runs: LiveRuns,
    chosen: _ChosenStates,
    job_ids: Collection[str],
    *,
    dry_run: bool,
) -> set[str]:
    """Mark the rows of jobs whose states expire; return these jobs and those marked earlier.

    In a dry run, no row is marked.
    """
    selected = chosen.select(job_ids)
    found = fetch_rows(connection, "find_expiring_states", job_ids=sorted(job_ids), chosen=list(selected))
    # A run that was cleared needs its state again, but its row does not change until training starts.
    live = live_runs([(row.dag_id, row.run_id) for row in found if row.dag_id and row.run_id])
    rows = [row for row in found if (row.dag_id, row.run_id) not in live]
    marked = {row.job_id for row in rows if row.marked}
    expiring = [row.job_id for row in rows if not row.marked]
    if dry_run:
        return marked | set(expiring)
    with connection.transaction():
        statements = Statements(connection)
        statements.fetch_all("lock_jobs", job_ids=expiring)
        expired = statements.fetch_all(
            "expire_states",
            job_ids=expiring,
            run_ids=[selected[job_id][0] for job_id in expiring],
            statuses=[selected[job_id][1] for job_id in expiring],
        )
        return marked | {row.job_id for row in expired}

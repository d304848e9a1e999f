"""GPU hours used by each user's jobs, by week.

An attempt uses its GPUs from the moment it gets them until its end. If an attempt was killed, was replaced or
could not record its end, the time of its last record counts instead. Weeks begin on Monday at 00:00 UTC. An
attempt that runs from one week into the next counts in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from include.database import Statements

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg import Connection

WEEK = timedelta(days=7)


def start_of_week(now: datetime) -> datetime:
    """Return when the week of `now` began: on Monday at 00:00 UTC."""
    day = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


@dataclass(frozen=True)
class OtherJobs:
    """The GPUs of a user's other jobs."""

    used: int
    """Number of GPUs that the other jobs have or are about to get."""
    job_ids: Sequence[str]
    """Jobs that have GPUs or are about to get them, in the order in which they were queued."""
    waiting: int
    """Number of jobs that wait for the quota."""
    ahead: int
    """Number of waiting jobs that were queued before this job; 0 if this job is not queued."""


class UserGpuUsage(BaseModel):
    """GPU hours that one user's jobs have used, and the GPUs that these jobs use or wait for now."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    user: str | None
    """The user who triggered the jobs; null if unknown."""
    gpu_hours: list[float]
    """GPU hours in each week, the current week first."""
    running: int
    """Number of GPUs in use by running jobs."""
    queued: int
    """Number of GPUs that jobs in the GPU queue have requested."""
    held: int
    """Number of GPUs that jobs waiting for the quota have requested."""


class JobUsage(BaseModel):
    """GPU hours that one job has used in a week."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    job_id: str
    """Name of the job."""
    status: str | None
    """A JobStatus, or whatever a host application wrote; null for a job that has been deleted."""
    gpu_hours: float
    """Hours times GPUs, counted only within the week."""
    attempts: int
    """Number of the job's attempts that used GPUs in the week."""


class UsageRepository:
    """Reads GPU hours over one idle psycopg connection; the caller closes it."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection, self._statements = connection, Statements(connection)

    def sum_gpu_hours(self, user: str, since: datetime) -> float:
        """Return the user's GPU hours since the time `since`."""
        with self._connection.transaction():
            row = self._statements.fetch_one("sum_gpu_seconds", triggered_by=user, since=since)
        return float(row.seconds) / 3600

    def find_other_jobs(self, user: str, job_id: str) -> OtherJobs:
        """Return the GPUs of the user's active jobs other than `job_id`."""
        with self._connection.transaction():
            row = self._statements.fetch_one("count_gpus_of_user", triggered_by=user, job_id=job_id)
        return OtherJobs(**row._asdict())

    def list_by_user(self, weeks: Sequence[datetime]) -> list[UserGpuUsage]:
        """Return every user who used a GPU in the `weeks`, or has an active job; most GPU hours first.

        `weeks` are consecutive Mondays, the latest first.
        """
        with self._connection.transaction():
            used = self._statements.fetch_all("sum_usage", since=weeks[-1], until=weeks[0] + WEEK)
            active = {user: gpus for user, *gpus in self._statements.fetch_all("list_gpus_of_users")}
        hours = {(row.user_name, row.week): row.gpu_seconds / 3600 for row in used}
        found = []
        for user in {row.user_name for row in used} | set(active):
            running, queued, held = active.get(user, (0, 0, 0))
            found.append(
                UserGpuUsage(
                    user=user,
                    gpu_hours=[hours.get((user, week), 0.0) for week in weeks],
                    running=running,
                    queued=queued,
                    held=held,
                )
            )
        return sorted(found, key=lambda each: (-sum(each.gpu_hours), each.user or ""))

    def list_of_user(self, user: str | None, week: datetime, limit: int) -> list[JobUsage]:
        """Return the user's jobs with the most GPU hours in the week that began on `week`."""
        with self._connection.transaction():
            rows = self._statements.fetch_all(
                "list_usage_of_user", user=user, since=week, until=week + WEEK, limit=limit
            )
        return [
            JobUsage(
                job_id=row.job_id,
                status=row.status,
                gpu_hours=row.gpu_seconds / 3600,
                attempts=row.attempts,
            )
            for row in rows
        ]

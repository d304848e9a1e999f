"""GPU hours used by each user's jobs, by week.

An attempt uses its GPUs from the moment it gets them until its end. If an attempt was killed or replaced, or
could not record its end, the time of its last record counts as its end.
Weeks begin on Monday at 00:00 UTC. An attempt that runs from one week into the next counts in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

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


@dataclass(frozen=True)
class UserGpuUsage:
    """The GPU hours that one user's jobs have used, and the GPUs that they have now."""

    user: str | None
    """The user who triggered the jobs; None if unknown."""
    gpu_hours: Sequence[float]
    """GPU hours in each week, the current one first."""
    running: int
    """GPUs of jobs that are running."""
    queued: int
    """GPUs of jobs that wait for a GPU."""
    held: int
    """GPUs of jobs that wait for the quota."""


@dataclass(frozen=True)
class JobGpuUsage:
    """The GPU hours that one job has used in a week."""

    job_id: str
    """The job's id."""
    status: str | None
    """The job's status; None if the job was deleted."""
    gpu_hours: float
    """GPU hours of the job in the week."""
    attempts: int
    """Number of the job's attempts in the week."""


class UsageRepository:
    """Reads GPU hours over one idle psycopg connection; the caller closes it."""

    def __init__(self, connection: Connection[Any]) -> None:
        self._connection, self._statements = connection, Statements(connection)

    def gpu_hours(self, user: str, since: datetime) -> float:
        """Return the user's GPU hours since the time `since`."""
        with self._connection.transaction():
            row = self._statements.fetch_one("sum_gpu_seconds", triggered_by=user, since=since)
        return float(row.seconds) / 3600

    def other_jobs(self, user: str, job_id: str) -> OtherJobs:
        """Return the GPUs of the user's active jobs other than `job_id`."""
        with self._connection.transaction():
            row = self._statements.fetch_one("count_gpus_of_user", triggered_by=user, job_id=job_id)
        return OtherJobs(**row._asdict())

    def by_user(self, weeks: Sequence[datetime]) -> list[UserGpuUsage]:
        """Return every user who used a GPU in the `weeks`, or has an active job; most GPU hours first.

        `weeks` are consecutive Mondays, the latest first.
        """
        with self._connection.transaction():
            used = self._statements.fetch_all("sum_usage", since=weeks[-1], until=weeks[0] + WEEK)
            active = {user: gpus for user, *gpus in self._statements.fetch_all("list_gpus_of_users")}
        hours = {(row.user_name, row.week): row.gpu_seconds / 3600 for row in used}
        found = [
            UserGpuUsage(user, [hours.get((user, week), 0.0) for week in weeks], *active.get(user, (0, 0, 0)))
            for user in {row.user_name for row in used} | set(active)
        ]
        return sorted(found, key=lambda each: (-sum(each.gpu_hours), each.user or ""))

    def of_user(self, user: str | None, week: datetime, limit: int) -> list[JobGpuUsage]:
        """Return the user's jobs with the most GPU hours in the week that began on `week`."""
        with self._connection.transaction():
            rows = self._statements.fetch_all(
                "list_usage_of_user", user=user, since=week, until=week + WEEK, limit=limit
            )
        return [JobGpuUsage(row.job_id, row.status, row.gpu_seconds / 3600, row.attempts) for row in rows]

"""Applies a user's quota to a job that is about to start.

Only a job that has not begun needs GPU hours: an interrupted or stopped job may always be finished. A job
that needs more GPUs than its user may have at a time is refused. A job that needs more GPUs than its user has
left at the moment is claimed, and waits until other jobs of the user have ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from include.jobs.quota import GPUS, HOURS
from include.jobs.spec import SpecError
from include.jobs.usage import WEEK, start_of_week
from include.refusals import list_some
from include.training.devices import count_devices

if TYPE_CHECKING:
    from include.jobs.job import TrainingJob
    from include.jobs.quota import Quota, Quotas
    from include.jobs.usage import OtherJobs, UsageRepository

_PAUSE = timedelta(seconds=20)
"""Time between two checks of whether a user's first waiting job may start. The second waiting job waits twice
as long between checks, the third three times as long, and so on."""
_LONGEST_PAUSE = timedelta(minutes=10)

_NAMED = 5
"""Maximum number of jobs that a message names."""


class QuotaReached(SpecError):
    """The user's quota does not allow this training run."""


class QuotaWait(BaseException):
    """The job was claimed and waits until other jobs of its user end.

    Like Preempted, it is not an Exception, because it is not an error. `pause` is the time to wait before the
    run claims the job again.
    """

    def __init__(self, reason: str, pause: timedelta) -> None:
        super().__init__(reason)
        self.pause = pause


@dataclass(frozen=True)
class QuotaCheck:
    """Compares users' quotas with the usage of their jobs at `now`."""

    quotas: Quotas
    """The quotas of all users."""
    usage: UsageRepository
    """Reads how many GPUs and GPU hours a user's jobs use."""
    now: datetime
    """The time of the check; decides which week's GPU hours count."""

    def of(self, user: str | None) -> UserQuotaCheck:
        """Return the check for one user; None (an unknown user) has no limits."""
        return UserQuotaCheck(user, self.quotas.of(user), self.usage, self.now)


@dataclass(frozen=True)
class UserQuotaCheck:
    """Compares the quota of one user with the usage of their jobs at `now`."""

    user: str | None
    """Name of the user; None if unknown."""
    quota: Quota
    """The user's quota."""
    usage: UsageRepository
    """Reads how many GPUs and GPU hours the user's jobs use."""
    now: datetime
    """The time of the check; decides which week's GPU hours count."""

    def require_hours(self) -> None:
        """Raise QuotaReached if the user has no GPU hours left this week."""
        limit, monday = self.quota.gpu_hours, start_of_week(self.now)
        if self.user is None or limit is None:
            return
        used = self.usage.sum_gpu_hours(self.user, monday)
        if used >= limit:
            raise QuotaReached(
                f"GPU hours: {self.user} has used {used:.1f} of {limit:g} this week ({HOURS}), so no new "
                f"training run starts before Monday, {monday + WEEK:%Y-%m-%d}, 00:00 UTC; training "
                "runs that have begun continue and can be resumed. Trigger this one again then, or ask an "
                "administrator for more"
            )

    def require_fitting(self, device: str | None) -> None:
        """Raise QuotaReached if the job alone needs more GPUs than the user may have."""
        needed, limit = count_devices(device), self.quota.gpus
        if limit is not None and needed > limit:
            raise QuotaReached(
                f"device={device or 'auto'!r} needs {_count_gpus(needed)}, but {self.user} may have "
                f"{limit} at a time ({GPUS}): request fewer, or ask an administrator for more"
            ).about("device")

    def find_gpu_limit(self, row: TrainingJob | None, run_id: str) -> int | None:
        """Return the GPU limit that applies when the job is claimed; None if the job may start in any case.

        A run whose job was already allowed to start keeps that right when it claims the job again.
        """
        if row is not None and row.run_id == run_id and row.is_active and not row.waits_for_quota:
            return None
        return self.quota.gpus

    def describe_wait(self, job_id: str) -> QuotaWait:
        """Return the reason why the job has to wait, and the pause before the next check."""
        others = self._count_others(job_id)
        pause = min(_PAUSE * (others.ahead + 1), _LONGEST_PAUSE)
        return QuotaWait(self._explain(others, others.ahead), pause)

    def foresee_wait(self, job_id: str, device: str | None) -> str | None:
        """Return why the job would have to wait; None if it would not."""
        limit = self.quota.gpus
        if self.user is None or limit is None:
            return None
        others = self._count_others(job_id)
        fits = not others.waiting and others.used + count_devices(device) <= limit
        return None if fits else self._explain(others, others.waiting)

    def _count_others(self, job_id: str) -> OtherJobs:
        return self.usage.find_other_jobs(self.user or "", job_id)

    def _explain(self, others: OtherJobs, ahead: int) -> str:
        named = list_some(others.job_ids, _NAMED) or "none"
        before = f", with {ahead} more ahead in the queue" if ahead else ""
        return (
            f"{self.user} may have {_count_gpus(self.quota.gpus or 0)} at a time ({GPUS}), and their other "
            f"jobs have {others.used} ({named}){before}: this job waits until enough of them end"
        )


def _count_gpus(number: int) -> str:
    return "1 GPU" if number == 1 else f"{number} GPUs"

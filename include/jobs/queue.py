"""The queue of jobs that wait for a GPU: their order, and when each will probably start."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict

from include.database import fetch_rows
from include.jobs.job import JobStatus
from include.training.devices import count_devices

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg import Connection


@dataclass(frozen=True)
class ActiveJob:
    """A job that waits for its GPU or uses it."""

    job_id: str
    """Name of the job."""
    status: JobStatus
    """QUEUED or RUNNING."""
    queued_at: datetime | None
    """When the job was last queued for its GPU, which orders the queue; None if unknown."""
    started_at: datetime | None
    """When the job's newest attempt got its GPU."""
    device: str | None
    """The parameter `device`; None if it is not given, which means one GPU."""
    epochs: int | None
    """Planned number of epochs."""
    finished_epochs: int
    """Number of finished epochs, including those of the job that this job continues."""
    epoch_seconds: float | None
    """Duration of an epoch in similar training runs, including overhead but not waits; None if there are no
    similar ones."""
    recorded_at: datetime | None
    """When the job's last epoch ended or, if later, when its newest attempt got its GPU; None before its
    first epoch has ended."""
    eta_seconds: float | None
    """The job's remaining time at `recorded_at`; None before its first epoch has ended."""

    @property
    def gpus(self) -> int:
        """Number of GPUs that the job needs."""
        return count_devices(self.device)

    @property
    def duration(self) -> timedelta | None:
        """Estimated time for the job's remaining epochs; None if there is no basis for an estimate."""
        if self.epochs is None or self.epoch_seconds is None:
            return None
        return _build_duration(self.epoch_seconds * max(0, self.epochs - self.finished_epochs))

    def estimate_end(self, now: datetime) -> datetime | None:
        """Estimate when a running job will end, `now` at the earliest; None if there is no basis for this."""
        if self.recorded_at is not None and self.eta_seconds is not None:
            return max(now, self.recorded_at + _build_duration(self.eta_seconds))
        if self.started_at is None or self.duration is None:
            return None
        return max(now, self.started_at + self.duration)


class QueuePlace(BaseModel):
    """Place of a job in the GPU queue, which is ordered by the time at which jobs were queued."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    place: int
    """1 for the first job in the queue. A job with a higher number may start first if it needs fewer GPUs."""
    waiting: int
    """Number of waiting jobs."""
    expected_start_at: datetime | None
    """Estimated from the current training runs and from how long similar ones took, and rounded up to the
    minute; null if no estimate is possible."""


def find_places(connection: Connection[Any], now: datetime) -> dict[str, QueuePlace]:
    """Return the place of each job that waits for a GPU, by its id."""
    rows = fetch_rows(connection, "find_queue")
    return assign_places(
        [ActiveJob(**row._asdict() | {"status": JobStatus(row.status)}) for row in rows], now
    )


def assign_places(jobs: Iterable[ActiveJob], now: datetime) -> dict[str, QueuePlace]:
    """Return the places of the waiting jobs; `jobs` are in the order in which they were queued.

    Jobs wait only while too few GPUs are free. Therefore the running jobs are assumed to have all GPUs.
    """
    jobs = list(jobs)
    waiting = [job for job in jobs if job.status == JobStatus.QUEUED]
    running = [job for job in jobs if job.status == JobStatus.RUNNING]
    starts = _estimate_starts(waiting, running, now)
    return {
        job.job_id: QueuePlace(
            place=place, waiting=len(waiting), expected_start_at=start and _round_up_to_minute(start)
        )
        for place, (job, start) in enumerate(zip(waiting, starts, strict=True), start=1)
    }


def _estimate_starts(
    waiting: Sequence[ActiveJob], running: Sequence[ActiveJob], now: datetime
) -> list[datetime | None]:
    """Estimate when each job will have its GPUs; None if it needs more GPUs than there are.

    If the end of a running job is unknown, so are all starts. After a waiting job of unknown duration, all
    later starts are unknown.
    """
    ends = [(job.estimate_end(now), job.gpus) for job in running]
    free = [end for end, gpus in ends if end is not None for _ in range(gpus)]
    is_known = all(end is not None for end, _ in ends)
    heapq.heapify(free)
    starts: list[datetime | None] = []
    for job in waiting:
        if not is_known or job.gpus > len(free):
            starts.append(None)
            continue
        start = [heapq.heappop(free) for _ in range(job.gpus)][-1]
        starts.append(start)
        if job.duration is None:
            is_known = False
            continue
        for _ in range(job.gpus):
            heapq.heappush(free, start + job.duration)
    return starts


def _build_duration(seconds: float) -> timedelta:
    """Return the duration, capped at ten years, because a host application may have written any number."""
    return timedelta(seconds=min(seconds, 10 * 365 * 86_400))


def _round_up_to_minute(moment: datetime) -> datetime:
    return (moment + timedelta(minutes=1, microseconds=-1)).replace(second=0, microsecond=0)

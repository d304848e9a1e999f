"""The queue of jobs that wait for a GPU: who is next, and when each one will probably start."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from include.database import Statements
from include.jobs.job import JobStatus
from include.training.devices import count_devices

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from psycopg import Connection


@dataclass(frozen=True)
class ActiveJob:
    """A job that waits for its GPU or has it.

    epoch_seconds is what an epoch took in trainings like it, all around it included; None without any.
    eta_seconds is what was left of it at recorded_at, when its last epoch ended; None before that.
    """

    job_id: str
    status: str
    queued_at: datetime | None
    started_at: datetime | None
    device: str | None
    epochs: int | None
    finished_epochs: int
    epoch_seconds: float | None
    recorded_at: datetime | None
    eta_seconds: float | None

    @property
    def gpus(self) -> int:
        """How many GPUs it takes."""
        return count_devices(self.device)

    @property
    def duration(self) -> timedelta | None:
        """How long what is left of it will take; None where there is no basis for an estimate."""
        if self.epochs is None or self.epoch_seconds is None:
            return None
        return _time(self.epoch_seconds * max(0, self.epochs - self.finished_epochs))

    def ends_at(self, now: datetime) -> datetime | None:
        """When a running job will end, not before now; None where there is no basis for an estimate."""
        if self.recorded_at is not None and self.eta_seconds is not None:
            return max(now, self.recorded_at + _time(self.eta_seconds))
        if self.started_at is None or self.duration is None:
            return None
        return max(now, self.started_at + self.duration)


@dataclass(frozen=True)
class QueuePlace:
    """place counts from 1, which starts next, to `waiting`.

    expected_start_at is rounded up to the minute; None where nothing is known to go by.
    """

    place: int
    waiting: int
    expected_start_at: datetime | None


def find_places(connection: Connection[Any], now: datetime) -> dict[str, QueuePlace]:
    """Return the place of each job that waits for a GPU, by its id."""
    with connection.transaction():
        rows = Statements(connection).rows("find_queue")
    return places_of([ActiveJob(**row._asdict()) for row in rows], now)


def places_of(jobs: Iterable[ActiveJob], now: datetime) -> dict[str, QueuePlace]:
    """Return the places of those that wait, which are given first come first.

    Who waits has a place because every GPU is taken: so there are as many as the running jobs have.
    """
    jobs = list(jobs)
    waiting = [job for job in jobs if job.status == JobStatus.QUEUED]
    running = [job for job in jobs if job.status == JobStatus.RUNNING]
    starts = _starts(waiting, running, now)
    return {
        job.job_id: QueuePlace(place, len(waiting), start and _minute(start))
        for place, (job, start) in enumerate(zip(waiting, starts, strict=True), start=1)
    }


def _starts(
    waiting: Sequence[ActiveJob], running: Sequence[ActiveJob], now: datetime
) -> list[datetime | None]:
    """Let each job begin when as many GPUs as it needs are free; from the first unknown on all are."""
    ends = [(job.ends_at(now), job.gpus) for job in running]
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


def _time(seconds: float) -> timedelta:
    """Return the duration, at most ten years: a platform may have written anything."""
    return timedelta(seconds=min(seconds, 10 * 365 * 86_400))


def _minute(moment: datetime) -> datetime:
    return (moment + timedelta(minutes=1, microseconds=-1)).replace(second=0, microsecond=0)

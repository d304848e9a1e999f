"""Polls the database once a second on behalf of all clients that watch a job."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from include.api.job_response import build_response
from include.database import fetch_rows
from include.deployment.retrying import list_database_errors
from include.deployment.settings import Settings
from include.jobs.queue import find_places
from include.jobs.repository import JobRepository

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from psycopg import Connection

    from include.database import OpenDatabase

log = logging.getLogger(__name__)

POLL_SECONDS = 1.0

OUTAGE_SECONDS = 15.0
"""Streams continue if the database is unavailable for less than this time."""


class KnownEpoch(NamedTuple):
    """A finished epoch."""

    epoch: int
    """Counted from 0."""
    recorded_at: datetime
    """When the epoch was last recorded: by the attempt that has repeated it, if one has."""
    json: str
    """The epoch's RecordedEpoch as JSON."""


@dataclass(frozen=True)
class JobState:
    """The state of a job at one poll."""

    version: tuple[object, ...]
    """Differs between states."""
    job: str | None
    """The TrainingJobResponse as JSON; None if the row has been deleted or cannot be shown."""
    has_ended: bool
    """Whether this state is final: the job has ended, or has no row that can be shown."""
    epochs: tuple[KnownEpoch, ...]
    """The job's finished epochs in order."""


_GONE = JobState((), None, has_ended=True, epochs=())


class Hub:
    """Keeps the current state of every watched job, and announces changes.

    The hub polls only while a client watches a job, in a thread and with one connection. If the database is
    unavailable, the hub keeps trying. Everything except the poll itself runs on one event loop.
    """

    def __init__(
        self,
        open_database: OpenDatabase,
        seconds: float = POLL_SECONDS,
        outage_seconds: float = OUTAGE_SECONDS,
    ) -> None:
        self._open_database, self._seconds = open_database, seconds
        self._outage_seconds = outage_seconds
        self._unavailable_since: float | None = None
        self._watchers: Counter[str] = Counter()
        self._states: dict[str, JobState] = {}
        self._polling: asyncio.Task[None] | None = None
        self._woken = asyncio.Event()
        self.news = asyncio.Event()
        """Set when a state changes, and then replaced by a new event: read `news` before you read a state."""

    @contextmanager
    def watching(self, job_id: str) -> Iterator[None]:
        """Keep `get_state(job_id)` up to date for the duration of the block."""
        self._watchers[job_id] += 1
        self._woken.set()
        if self._polling is None:
            self._polling = asyncio.create_task(self._poll_until_unwatched())
        try:
            yield
        finally:
            self._watchers[job_id] -= 1
            if not self._watchers[job_id]:
                del self._watchers[job_id]
                self._states.pop(job_id, None)
                self._woken.set()

    def get_state(self, job_id: str) -> JobState | None:
        """Return the newest state of a watched job; None before its first poll."""
        return self._states.get(job_id)

    @property
    def is_outdated(self) -> bool:
        """Whether the database has been unavailable for so long that clients should be told."""
        since = self._unavailable_since
        return since is not None and time.monotonic() - since >= self._outage_seconds

    @property
    def is_idle(self) -> bool:
        """Whether the polling has stopped because no job is watched."""
        return self._polling is None

    async def _poll_until_unwatched(self) -> None:
        try:
            while self._watchers:
                self._woken.clear()
                known = {job_id: self._states.get(job_id) for job_id in self._watchers}
                try:
                    found = await asyncio.to_thread(poll, known, self._open_database)
                except Exception as error:  # the next poll may succeed after any error
                    if self._unavailable_since is None:
                        log.warning("Watched jobs could not be read, retrying: %s", error)
                        self._unavailable_since = time.monotonic()
                else:
                    self._unavailable_since = None
                    self._publish(found)
                await self._pause()
        finally:
            self._polling = self._unavailable_since = None

    def _publish(self, found: Mapping[str, JobState]) -> None:
        new = {job_id: state for job_id, state in found.items() if job_id in self._watchers}
        if new:
            self._states |= new
            self.news.set()
            self.news = asyncio.Event()

    async def _pause(self) -> None:
        """Wait until the next poll is due, a client starts to watch, or the last client of a job leaves."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._woken.wait(), self._seconds)


def poll(known: Mapping[str, JobState | None], open_database: OpenDatabase) -> dict[str, JobState]:
    """Return the new state of each job whose state differs from the one that is known."""
    bucket = Settings.from_environment().bucket
    with open_database() as connection:
        rows = fetch_rows(connection, "find_changed_jobs", job_ids=list(known))
        found = {row.job_id: row for row in rows}
        # A job's place in the queue depends on the rows of other jobs.
        is_queued = any(row.is_queued for row in rows)
        places = find_places(connection, datetime.now(UTC)) if is_queued else {}
        new = {job_id: _GONE for job_id in known if job_id not in found}
        for job_id, row in found.items():
            before = known[job_id]
            version = (row.version, row.epoch, row.recorded_at, places.get(job_id))
            if before is None or before.version != version:
                try:
                    new[job_id] = _read(connection, bucket, job_id, version, row.epoch, before)
                except list_database_errors():
                    raise
                except Exception:  # an unreadable row must not end the streams of other jobs
                    log.warning("The current state of job %r cannot be shown.", job_id, exc_info=True)
                    new[job_id] = _GONE
    return new


def _read(
    connection: Connection[Any],
    bucket: str,
    job_id: str,
    version: tuple[object, ...],
    latest: int | None,
    before: JobState | None,
) -> JobState:
    jobs = JobRepository(connection)
    # The job is read first: if it has ended, all of its epochs are already recorded.
    job = jobs.get(job_id)
    if job is None:
        return _GONE
    shown = build_response(job, connection, bucket).model_dump_json()
    old = before.epochs if before else ()
    new = jobs.list_epochs(
        job_id,
        after=max((known.epoch for known in old), default=-1),
        since=max((known.recorded_at for known in old), default=None),
    )
    epochs = {known.epoch: known for known in old if latest is not None and known.epoch <= latest}
    epochs |= {
        epoch.epoch: KnownEpoch(epoch.epoch, epoch.recorded_at, epoch.model_dump_json()) for epoch in new
    }
    return JobState(version, shown, job.has_ended, tuple(epochs[number] for number in sorted(epochs)))

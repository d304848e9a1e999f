"""One look at the database a second for everybody who watches a job, however many they are."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from include.api.job_response import response_of
from include.database import Statements
from include.deployment.retrying import database_errors
from include.jobs.queue import find_places
from include.jobs.repository import JobRepository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from psycopg import Connection

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0


class KnownEpoch(NamedTuple):
    """A finished epoch, and its RecordedEpoch as JSON."""

    epoch: int
    recorded_at: datetime
    json: str


@dataclass(frozen=True)
class JobState:
    """A job at one look. version tells one state from another; job is its TrainingJobResponse as JSON.

    A row that was deleted meanwhile, or cannot be shown, has no job.
    """

    version: tuple[object, ...]
    job: str | None
    ended: bool
    epochs: tuple[KnownEpoch, ...]


_GONE = JobState((), None, ended=True, epochs=())


class Hub:
    """Keeps the present state of every job that somebody watches, and tells that something is new.

    It looks only while somebody watches, in a thread, with one connection. A database that is away is no
    reason to end: nothing is new then. All but the look itself belongs to one event loop.
    """

    def __init__(
        self,
        open_database: Callable[[], AbstractContextManager[Connection[Any]]],
        seconds: float = LOOK_SECONDS,
    ) -> None:
        self._open_database, self._seconds = open_database, seconds
        self._watchers: Counter[str] = Counter()
        self._states: dict[str, JobState] = {}
        self._looking: asyncio.Task[None] | None = None
        self._asked = asyncio.Event()
        self.news = asyncio.Event()
        """Set when a state is new. Then it is another event, so take it before you look at a state."""

    @contextmanager
    def watching(self, job_id: str) -> Iterator[None]:
        """Keep `state(job_id)` up to date for the length of the block."""
        self._watchers[job_id] += 1
        self._asked.set()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look_again_and_again())
        try:
            yield
        finally:
            self._watchers[job_id] -= 1
            if not self._watchers[job_id]:
                del self._watchers[job_id]
                self._states.pop(job_id, None)
                self._asked.set()

    def state(self, job_id: str) -> JobState | None:
        """Return the newest state of a job that is watched; None until it was looked at."""
        return self._states.get(job_id)

    @property
    def idle(self) -> bool:
        """Whether the polling has stopped, because nobody watches."""
        return self._looking is None

    async def _look_again_and_again(self) -> None:
        reachable = True
        try:
            while self._watchers:
                self._asked.clear()
                known = {job_id: self._states.get(job_id) for job_id in self._watchers}
                try:
                    found = await asyncio.to_thread(look, known, self._open_database)
                except Exception as error:  # whatever it is, the next look may succeed
                    if reachable:
                        log.warning("Watched jobs could not be read, retrying: %s", error)
                    reachable = False
                else:
                    reachable = True
                    self._tell(found)
                await self._pause()
        finally:
            self._looking = None

    def _tell(self, found: Mapping[str, JobState]) -> None:
        new = {job_id: state for job_id, state in found.items() if job_id in self._watchers}
        if new:
            self._states |= new
            self.news.set()
            self.news = asyncio.Event()

    async def _pause(self) -> None:
        """Wait for the next poll; a client that starts to watch, or a job's last one that leaves, ends it."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), self._seconds)


def look(
    known: Mapping[str, JobState | None],
    open_database: Callable[[], AbstractContextManager[Connection[Any]]],
) -> dict[str, JobState]:
    """Return the states of those of these jobs that are not as they were known."""
    with open_database() as connection:
        with connection.transaction():
            rows = Statements(connection).rows("find_changed_jobs", job_ids=list(known))
        found = {row.job_id: row for row in rows}
        # The place in the queue changes with other rows.
        is_queued = any(row.is_queued for row in rows)
        places = find_places(connection, datetime.now(UTC)) if is_queued else {}
        new = {job_id: _GONE for job_id in known if job_id not in found}
        for job_id, row in found.items():
            before = known[job_id]
            version = (row.version, row.epoch, row.recorded_at, places.get(job_id))
            if before is None or before.version != version:
                try:
                    new[job_id] = _read(connection, job_id, version, row.epoch, before)
                except database_errors():
                    raise
                except Exception:  # this row must not end the streams of other jobs
                    log.warning("The present state of job %r cannot be shown.", job_id, exc_info=True)
                    new[job_id] = _GONE
    return new


def _read(
    connection: Connection[Any],
    job_id: str,
    version: tuple[object, ...],
    latest: int | None,
    before: JobState | None,
) -> JobState:
    jobs = JobRepository(connection)
    # First the job: where it has ended, all of its epochs were there before
    job = jobs.get(job_id)
    if job is None:
        return _GONE
    shown = response_of(job, connection).model_dump_json()
    old = before.epochs if before else ()
    new = jobs.epochs(
        job_id,
        after=max((each.epoch for each in old), default=-1),
        since=max((each.recorded_at for each in old), default=None),
    )
    epochs = {each.epoch: each for each in old if latest is not None and each.epoch <= latest}
    epochs |= {each.epoch: KnownEpoch(each.epoch, each.recorded_at, each.model_dump_json()) for each in new}
    return JobState(version, shown, job.has_ended, tuple(epochs[each] for each in sorted(epochs)))

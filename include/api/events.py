"""Live events of a job: its epochs and its row as server-sent events, for any browser's EventSource."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated

from airflow.api_fastapi.core_api.security import GetUserDep  # noqa: TC002 - read at run time
from fastapi import APIRouter, Depends, Header, Query, Request  # noqa: TC002 - read at run time
from fastapi.sse import EventSourceResponse, ServerSentEvent

from include.api.access import require_can_see_runs
from include.api.hub import Hub
from include.api.jobs import FoundJob
from include.api.problems import ProblemError, describe_errors
from include.jobs.job import TRAINING_DAG
from include.serving.protocol import find_running_server

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Iterator

    from include.api.hub import JobState, KnownEpoch

MAX_STREAMS = 32
"""Maximum number of streams for each user in each process of the API server: each stream costs the process a
connection and a task. A browser opens one stream for each job page."""

LONGEST_SECONDS = 300.0
"""Maximum duration of a stream. The browser then reconnects, and the user's permissions are checked again."""

RETRY_MILLISECONDS = 2000
_NOTICE_SECONDS = 0.5
"""How often a stream checks whether its time is up or the server is stopping."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=[require_can_see_runs(TRAINING_DAG)])


def _get_hub(request: Request) -> Hub:
    """Return the application's hub."""
    hub: Hub = request.app.state.hub
    return hub


async def _count_stream(request: Request, user: GetUserDep) -> AsyncIterator[None]:
    """Count one more stream of this user during the block. Raises ProblemError (429) above the limit."""
    streams: Counter[str] = request.app.state.streams
    user_id = user.get_id()
    if streams[user_id] >= MAX_STREAMS:
        raise ProblemError(
            HTTPStatus.TOO_MANY_REQUESTS,
            f"You are already following {MAX_STREAMS} training runs, which is the limit: close some "
            "streams first",
            {"Retry-After": "10"},
        )
    streams[user_id] += 1
    try:
        yield
    finally:
        streams[user_id] -= 1
        if not streams[user_id]:
            del streams[user_id]


@router.get(
    "/{job_id}/events",
    response_class=EventSourceResponse,
    responses=describe_errors(HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS),
    dependencies=[Depends(_count_stream)],
)
async def follow_job(
    job: FoundJob,
    hub: Annotated[Hub, Depends(_get_hub)],
    after: Annotated[
        int, Query(ge=-1, le=2**31 - 1, description="Only epochs after this one, counted from 0.")
    ] = -1,
    last_event_id: Annotated[
        int | None,
        Header(ge=-1, le=2**31 - 1, description="Overrides `after`; browsers send it when they reconnect."),
    ] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Stream events of a job: `job` first and after each change, `epoch` after each epoch, `end` last.

    The events carry the same data as the routes for the job and its epochs. The stream ends after at
    most five minutes. A client that reconnects continues after the last epoch that it received.
    """
    last_seen = after if last_event_id is None else last_event_id
    async for event in follow(hub, job.job_id, last_seen, LONGEST_SECONDS):
        yield event


async def follow(hub: Hub, job_id: str, after: int, seconds: float) -> AsyncIterator[ServerSentEvent]:
    """Yield the job's events after epoch `after`, until the job has ended or `seconds` have passed.

    The stream ends earlier if the server stops, the row is deleted, or the row cannot be shown. It also ends
    in a long outage of the database: a client that reconnects gets 503, so that a page can say what is wrong.
    """
    end, version, sent = time.monotonic() + seconds, None, _SentEpochs(after)
    with hub.watching(job_id):
        while time.monotonic() < end and not hub.is_outdated and not is_server_stopping():
            news, state = hub.news, hub.get_state(job_id)
            if state is not None and state.version != version:
                if state.job is None:  # a client that reconnects gets 404 if the job has been deleted
                    return
                yield ServerSentEvent(event="job", raw_data=state.job, retry=RETRY_MILLISECONDS)
                for epoch in sent.take_new(state):
                    yield ServerSentEvent(event="epoch", raw_data=epoch.json, id=str(epoch.epoch))
                if state.has_ended:
                    yield ServerSentEvent(event="end", raw_data="{}")
                    return
                version = state.version
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), _NOTICE_SECONDS)


class _SentEpochs:
    """The epochs that a stream has sent: those up to number `_epoch` that were recorded by time `_until`."""

    def __init__(self, after: int) -> None:
        self._epoch = after
        self._until: datetime | None = None

    def take_new(self, state: JobState) -> Iterator[KnownEpoch]:
        """Yield the epochs that have to be sent.

        If the job has gone back to an earlier epoch since the last call, the epochs that it has repeated are
        sent again. On the first call, the newest epoch may be before `after`: the client has then seen epochs
        that no longer exist, and gets all epochs.
        """
        latest = state.epochs[-1].epoch if state.epochs else -1
        if latest < self._epoch:
            self._epoch = -1 if self._until is None else latest
        for each in state.epochs:
            if each.epoch > self._epoch or (self._until is not None and each.recorded_at > self._until):
                self._epoch = each.epoch
                yield each
        self._until = max((each.recorded_at for each in state.epochs), default=_LONG_AGO)


def is_server_stopping() -> bool:
    """Return whether the server of this process is stopping.

    Uvicorn does not announce that it is stopping, but waits for open streams. Airflow limits the wait to two
    minutes ([api] worker_timeout).
    """
    server = find_running_server()
    return server is not None and server.should_exit

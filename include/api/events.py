"""A job as it happens: its epochs and its row as server-sent events, for EventSource of any browser."""

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

from include.api.access import may_see_runs_of
from include.api.hub import Hub  # noqa: TC001 - FastAPI reads annotations at run time
from include.api.jobs import FoundJob  # noqa: TC001 - FastAPI reads annotations at run time
from include.api.problems import responses
from include.api.streams import StreamLimit  # noqa: TC001 - used at run time
from include.jobs.job import TRAINING_DAG
from include.serving.protocol import find_running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.api.hub import JobState, KnownEpoch

LONGEST_SECONDS = 300.0
"""How long a stream lives. The browser reconnects on its own, and its permissions are checked again."""

RETRY_MILLISECONDS = 2000
_NOTICE_SECONDS = 0.5
"""How soon a stream notices that its time is over, or that the server was told to stop."""
_LONG_AGO = datetime.min.replace(tzinfo=UTC)

router = APIRouter(prefix="/jobs", tags=["jobs"], dependencies=[may_see_runs_of(TRAINING_DAG)])

Epoch = Annotated[int, Query(ge=-1, le=2**31 - 1)]
EpochHeader = Annotated[
    int | None, Header(ge=-1, le=2**31 - 1, description="As `after`; browsers send it when they come back.")
]


def _hub(request: Request) -> Hub:
    """Return the application's hub."""
    hub: Hub = request.app.state.hub
    return hub


async def _one_more_stream(request: Request, user: GetUserDep) -> AsyncIterator[None]:
    """Count this stream as one of its user until it has ended."""
    streams: StreamLimit = request.app.state.streams
    with streams.stream_of(user.get_id()):
        yield


@router.get(
    "/{job_id}/events",
    response_class=EventSourceResponse,
    responses=responses(HTTPStatus.NOT_FOUND, HTTPStatus.TOO_MANY_REQUESTS),
    dependencies=[Depends(_one_more_stream)],
)
async def follow_job(
    job: FoundJob,
    hub: Annotated[Hub, Depends(_hub)],
    after: Annotated[Epoch, Query(description="Epochs after this one, from 0.")] = -1,
    last_event_id: EpochHeader = None,
) -> AsyncIterator[ServerSentEvent]:
    """Follow a job: `job` at first and when its row changes, `epoch` for each finished one, `end` at its end.

    The data are those of the routes of the job and of its epochs. After five minutes the stream ends.
    """
    place = after if last_event_id is None else last_event_id
    async for event in follow(hub, job.job_id, place, LONGEST_SECONDS):
        yield event


async def follow(hub: Hub, job_id: str, after: int, seconds: float) -> AsyncIterator[ServerSentEvent]:
    """Yield what happens to the job after epoch `after`, until it has ended or `seconds` have passed."""
    end, told, sent = time.monotonic() + seconds, None, _Sent(after)
    with hub.watching(job_id):
        while time.monotonic() < end and not uvicorn_stops():
            news, state = hub.news, hub.state(job_id)
            if state is not None and state.version != told:
                if state.job is None:  # deleted: a client that reconnects gets 404
                    return
                yield ServerSentEvent(event="job", raw_data=state.job, retry=RETRY_MILLISECONDS)
                for epoch in sent.new_in(state):
                    yield ServerSentEvent(event="epoch", raw_data=epoch.json, id=str(epoch.epoch))
                if state.ended:
                    yield ServerSentEvent(event="end", raw_data="{}")
                    return
                told = state.version
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), _NOTICE_SECONDS)


class _Sent:
    """Which epochs a stream has told of: all up to one, as they were recorded until then."""

    def __init__(self, after: int) -> None:
        self._epoch = after
        self._until: datetime | None = None

    def new_in(self, state: JobState) -> Iterator[KnownEpoch]:
        """Epochs that are to be sent.

        Where the job went back meanwhile, those that it repeats; where that was before the stream began, all.
        """
        latest = state.epochs[-1].epoch if state.epochs else -1
        if latest < self._epoch:
            self._epoch = -1 if self._until is None else latest
        for each in state.epochs:
            if each.epoch > self._epoch or (self._until is not None and each.recorded_at > self._until):
                self._epoch = each.epoch
                yield each
        self._until = max((each.recorded_at for each in state.epochs), default=_LONG_AGO)


def uvicorn_stops() -> bool:
    """Whether the server of this process was told to stop.

    It tells nobody, and waits for open streams: two minutes in Airflow, by [api] worker_timeout.
    """
    server = find_running_server()
    return server is not None and server.should_exit

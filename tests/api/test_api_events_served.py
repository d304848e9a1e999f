"""Events arrive through Airflow's own API server without delay."""

from __future__ import annotations

from contextlib import closing

import pytest

from include.api.app import PREFIX
from include.jobs.repository import JobRepository
from include.stack.local import Stack
from tests.support.api_client import token
from tests.support.event_streams import Listener, epochs
from tests.support.jobs import epoch_report

pytestmark = pytest.mark.timeout(600)


def listening(stack: Stack) -> Listener:
    stream = Listener(f"{stack.url}{PREFIX}/jobs/a/events", bearer=token(stack, "viewer"))
    assert stream.answer.status_code == 200
    return stream


def test_an_epoch_arrives_immediately(api_stack: Stack, running_job: JobRepository) -> None:
    with closing(listening(api_stack)) as stream:
        assert stream.answer.headers["content-type"].startswith("text/event-stream")
        assert "content-encoding" not in stream.answer.headers  # compression would delay events
        assert stream.answer.headers["x-accel-buffering"] == "no"
        assert epochs(stream.until("epoch")) == [0]
        for epoch in (1, 2):  # each is read before the next one is recorded
            running_job.record_epoch("a", "run1", 1, epoch_report(epoch, loss=0.5))
            assert epochs(stream.until("epoch")) == [epoch]

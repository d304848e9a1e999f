"""A retraining waits for its training run by reading the job's row, even through a database outage."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import psycopg
import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DagRunTriggerException

from include.jobs.repository import JobRepository
from include.tasks.retrain_payloads import Challenge
from include.tasks.training_operators import (
    JobEnded,
    TriggerTrainingOperator,
    find_challenger,
    poll_job,
)
from tests.support.cutting_proxy import CuttingProxy
from tests.support.jobs import claim, record_checkpoints, recorded

pytestmark = pytest.mark.usefixtures("airflow_connections")


CHALLENGE = Challenge(job_id="a", run_id="retrain__a", conf={}, timeout_hours=2, parameters_fingerprint="p")

Record = Callable[[JobRepository], object]


def _record_nothing(jobs: JobRepository) -> None:
    """Leave the job without a row."""


def _fail(jobs: JobRepository) -> None:
    claim(jobs)
    jobs.fail_run("train_yolo", "run1", "train: out of memory")


@pytest.mark.parametrize(
    ("record", "timed_out", "message"),
    [
        (
            _record_nothing,
            False,
            "Run retrain__a of train_yolo has ended, but job a has not: it has no row",
        ),
        (claim, False, "its row still says queued"),
        (claim, True, "Job a has not ended within 2 hours"),
        (_fail, True, "Job a failed (train: out of memory)"),
    ],
    ids=["no row", "queued", "queued for too long", "failed"],
)
def test_a_job_that_has_not_completed_fails_the_retraining(
    jobs: JobRepository, record: Record, timed_out: bool, message: str
) -> None:
    record(jobs)
    with pytest.raises(AirflowFailException, match=re.escape(message)):
        find_challenger(CHALLENGE, jobs.get("a"), timed_out=timed_out)


def test_a_stopped_job_skips_the_rest_of_the_retraining(
    connection: psycopg.Connection[Any], jobs: JobRepository
) -> None:
    claim(jobs)
    record_checkpoints(connection, status="stopped")
    with pytest.raises(AirflowSkipException, match="Job a was stopped"):
        find_challenger(CHALLENGE, jobs.get("a"), timed_out=False)


def test_a_completed_job_is_the_challenger_even_after_the_timeout(
    connection: psycopg.Connection[Any], jobs: JobRepository
) -> None:
    claim(jobs)
    record_checkpoints(connection)
    challenger = find_challenger(CHALLENGE, jobs.get("a"), timed_out=True)
    assert (challenger.job_id, challenger.path) == ("a", "s3://bucket/checkpoints/a/best.pt")
    assert challenger.sha256 == recorded(jobs).best_checkpoint_sha256


def test_a_job_that_another_run_continues_is_not_started_again_and_is_waited_for(
    jobs: JobRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim(jobs, run_id="by hand")
    live = {"by hand"}
    monkeypatch.setattr("include.tasks.training_operators.is_running", lambda dag_id, run_id: run_id in live)
    context = cast("Context", {"dag": SimpleNamespace(dag_id="retrain_yolo"), "run_id": "manual__1"})
    trigger = TriggerTrainingOperator(task_id="trigger_training", challenge=CHALLENGE)
    trigger.execute(context)
    assert poll_job("a", CHALLENGE.run_id) == (False, True)
    live.clear()
    assert poll_job("a", CHALLENGE.run_id) == (False, False)
    with pytest.raises(DagRunTriggerException):
        trigger.execute(context)


def fired(trigger: JobEnded) -> Any:
    """Serialise the trigger, run it as a triggerer does, and return the payload of its event."""
    path, values = trigger.serialize()
    assert path == f"{JobEnded.__module__}.JobEnded"

    async def first() -> Any:
        return (await anext(aiter(JobEnded(**values).run()))).payload

    return asyncio.run(asyncio.wait_for(first(), 60))


def test_the_trigger_fires_when_the_row_is_completed_despite_an_outage(
    connection: psycopg.Connection[Any],
    jobs: JobRepository,
    migrated_url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    claim(jobs)
    server = migrated_url.partition("@")[2].partition("/")[0]
    with CuttingProxy(f"http://{server}", received=0, cuts=2) as proxy:
        through = migrated_url.replace(server, proxy.endpoint_url.removeprefix("http://"))
        monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", through)

        def complete() -> None:
            assert proxy.failing.wait(60)
            with psycopg.connect(migrated_url) as own:
                record_checkpoints(own)

        finishing = threading.Thread(target=complete)
        finishing.start()
        event = fired(JobEnded("a", "retrain__a", time.time() + 3600, pause=0.1))
        finishing.join()
    assert event == {"timed_out": False}
    assert proxy.cuts == 2
    assert "Job a: status currently unavailable" in caplog.text


def test_the_trigger_gives_up_at_its_deadline_even_during_an_outage(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", "postgresql://nobody@127.0.0.1:1/none")
    assert fired(JobEnded("a", "retrain__a", time.time() - 1, pause=0.1)) == {"timed_out": True}

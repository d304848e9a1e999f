"""The order of the jobs that wait for a GPU, and their expected starts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.api.job_response import build_response
from include.deployment.settings import DEFAULT_BUCKET
from include.jobs.job import JobStatus
from include.jobs.queue import ActiveJob, QueuePlace, assign_places, find_places
from include.jobs.repository import JobRepository
from tests.support.jobs import claim, epoch_report, record_checkpoints, recorded

NOW = datetime(2026, 5, 6, 7, 8, tzinfo=UTC)
KIND = {"dataset": "digits", "model": "yolo11n", "imgsz": 64}


def job(name: str, status: str = "queued", **given: Any) -> ActiveJob:
    """Return a job of ten epochs; in similar training runs, an epoch took a minute."""
    values: dict[str, Any] = {
        "queued_at": NOW,
        "started_at": NOW if status == "running" else None,
        "device": None,
        "epochs": 10,
        "finished_epochs": 0,
        "epoch_seconds": 60.0,
        "recorded_at": None,
        "eta_seconds": None,
    }
    return ActiveJob(name, JobStatus(status), **(values | given))


def minutes(jobs: list[ActiveJob]) -> list[int | None]:
    """Return in how many minutes each waiting job is expected to start."""
    starts = [place.expected_start_at for place in assign_places(jobs, NOW).values()]
    return [None if start is None else round((start - NOW) / timedelta(minutes=1)) for start in starts]


def test_jobs_start_one_after_the_other_on_one_gpu() -> None:
    jobs = [job("runs", "running"), job("next"), job("last")]
    assert assign_places(jobs, NOW)["next"] == QueuePlace(
        place=1, waiting=2, expected_start_at=NOW + timedelta(minutes=10)
    )
    assert assign_places(jobs, NOW)["last"] == QueuePlace(
        place=2, waiting=2, expected_start_at=NOW + timedelta(minutes=20)
    )


def test_a_job_that_needs_two_gpus_waits_until_both_are_free() -> None:
    running = [job("a", "running", epochs=3), job("b", "running", epochs=5)]
    assert minutes([*running, job("two", device="0,1"), job("one")]) == [5, 15]


def test_the_eta_of_a_running_job_takes_precedence() -> None:
    assert minutes([job("a", "running", recorded_at=NOW, eta_seconds=90.0), job("b")]) == [2]
    late = job("a", "running", recorded_at=NOW - timedelta(hours=1), eta_seconds=90.0)
    assert minutes([late, job("b")]) == [0]


@pytest.mark.parametrize(
    ("running", "expected"),
    [
        ([], [None, None, None]),
        ([{"epoch_seconds": None}], [None, None, None]),
        ([{"epochs": None}], [None, None, None]),
        ([{}], [10, 20, None]),
    ],
    ids=["nothing runs", "nothing is similar", "a time budget", "the last is of two GPUs"],
)
def test_an_unpredictable_start_is_not_guessed(running: list[dict[str, Any]], expected: list[Any]) -> None:
    jobs = [job(f"r{number}", "running", **given) for number, given in enumerate(running)]
    assert minutes([*jobs, job("a"), job("b"), job("c", device="0,1")]) == expected


def test_after_a_job_of_unknown_length_no_start_is_predicted() -> None:
    jobs = [job("r", "running"), job("a", epoch_seconds=None), job("b")]
    assert minutes(jobs) == [10, None]


def test_places_are_in_the_order_in_which_jobs_were_queued(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    for number, job_id in enumerate(["third", "first", "second"]):
        came = NOW + timedelta(seconds=[3, 1, 2][number])
        claim(jobs, job_id, f"run of {job_id}", queued_at=came)
    connection.execute("INSERT INTO training_jobs (job_id, status) VALUES ('of the host', 'queued')")
    assert {name: place.place for name, place in find_places(connection, NOW).items()} == {
        "first": 1,
        "second": 2,
        "third": 3,
    }
    assert build_response(recorded(jobs, "of the host"), connection, DEFAULT_BUCKET).queue is None


def test_the_start_is_estimated_from_similar_training_runs(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs, "before", "run0", spec=KIND)
    jobs.leave_queue("before", "run0", 1)
    record_checkpoints(connection, "run0", job_id="before")  # after three epochs
    connection.execute("UPDATE training_jobs SET started_at = completed_at - interval '6 minutes'")
    connection.commit()
    for name in ("runs", "waits", "other"):
        claim(
            jobs, name, f"run of {name}", epochs=10, spec=KIND | ({"imgsz": 640} if name == "other" else {})
        )
    jobs.leave_queue("runs", "run of runs", 1)
    started = recorded(jobs, "runs").started_at
    assert started is not None

    shown = build_response(recorded(jobs, "waits"), connection, DEFAULT_BUCKET).queue
    assert shown is not None
    assert shown.expected_start_at is not None
    assert timedelta(minutes=20) <= shown.expected_start_at - started <= timedelta(minutes=21)
    other = build_response(recorded(jobs, "other"), connection, DEFAULT_BUCKET).queue
    assert other is not None
    assert other.expected_start_at is not None
    assert timedelta(minutes=40) <= other.expected_start_at - started <= timedelta(minutes=41)
    assert build_response(recorded(jobs, "runs"), connection, DEFAULT_BUCKET).queue is None


def test_the_times_between_attempts_do_not_postpone_the_expected_start(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    for name in ("before", "runs"):
        claim(jobs, name, f"run of {name}", epochs=3, spec=KIND)
        for attempt in (1, 2):
            jobs.leave_queue(name, f"run of {name}", attempt)
            _let_pass(connection, "3 minutes")
            jobs.extend_gpu_use(name, f"run of {name}", attempt)
            if attempt == 1:
                _let_pass(connection, "5 days")  # no GPU is free
        if name == "before":
            record_checkpoints(connection, "run of before", job_id="before")  # three epochs in six minutes
    claim(jobs, "waits", "run of waits", epochs=3, spec=KIND)
    now = datetime.now(UTC)
    start = find_places(connection, now)["waits"].expected_start_at
    assert start is not None
    assert timedelta(minutes=3) <= start - now <= timedelta(minutes=4.5)  # epoch 1 is repeated

    jobs.record_epoch("runs", "run of runs", 2, epoch_report(0))
    connection.execute("UPDATE training_epochs SET eta_seconds = 600")
    connection.commit()
    _let_pass(connection, "2 days")
    jobs.leave_queue("runs", "run of runs", 3)
    now = datetime.now(UTC)
    start = find_places(connection, now)["waits"].expected_start_at
    assert start is not None
    assert timedelta(minutes=10) <= start - now <= timedelta(minutes=11)
    progress = build_response(recorded(jobs, "runs"), connection, DEFAULT_BUCKET).progress
    assert progress.recorded_at is not None
    assert progress.eta_seconds is not None
    end = progress.recorded_at + timedelta(seconds=progress.eta_seconds)
    assert timedelta(minutes=9) <= end - now <= timedelta(minutes=11)


def _let_pass(connection: psycopg.Connection[Any], interval: str) -> None:
    """Move all recorded times into the past by `interval`."""
    moved = {
        "training_jobs": ("queued_at", "started_at", "completed_at"),
        "training_epochs": ("recorded_at",),
        "gpu_usage": ("started_at", "seen_at"),
    }
    for table, columns in moved.items():
        changes = ", ".join(f"{column} = {column} - %(time)s::interval" for column in columns)
        connection.execute(f"UPDATE {table} SET {changes}", {"time": interval})
    connection.commit()


def test_an_epoch_copied_from_a_parent_predicts_nothing(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    claim(jobs, "parent", "run0")
    jobs.record_epoch("parent", "run0", 1, epoch_report(0))
    claim(jobs, "runs", "run1", parent_job_id="parent", resumed_epoch=0)
    jobs.copy_epochs("parent", "runs", 0)
    jobs.leave_queue("runs", "run1", 1)
    claim(jobs, "waits", "run2")
    connection.execute("UPDATE training_jobs SET status = 'failed' WHERE job_id = 'parent'")
    assert find_places(connection, NOW)["waits"].expected_start_at is None
    assert build_response(recorded(jobs, "runs"), connection, DEFAULT_BUCKET).progress.eta_seconds is None

"""A job's row shows the progress of its data only while the data are listed, fetched and checked."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from typing import Any

import psycopg
import pytest

from include.claim.preparation import show_preparation
from include.claim.resolved_job import ResolvedJob
from include.datasets import progress
from include.datasets.confinement import run_confined
from include.datasets.progress import ProgressLog
from include.jobs.repository import JobRepository
from include.jobs.spec import TrainingSpec
from tests.support.jobs import claim, recorded, resolved
from tests.support.waiting import until

Opener = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]


@pytest.fixture(autouse=True)
def every_step(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Log a line for each step rather than one every ten seconds."""
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0)
    caplog.set_level(logging.INFO)


@pytest.fixture
def job(jobs: JobRepository) -> ResolvedJob:
    claim(jobs)
    spec = TrainingSpec().with_defaults()
    return resolved(spec)


@pytest.fixture
def open_database(migrated_url: str) -> Opener:
    return lambda: closing(psycopg.connect(migrated_url))


def wait_for(jobs: JobRepository, expected: str | None) -> None:
    """Wait until the row shows `expected`."""
    until(lambda: recorded(jobs).preparation == expected, f"the row shows {expected}", 30, pause=0.05)


def advance(number: int) -> int:
    """Report progress as a confined process does."""
    progress._SECONDS_BETWEEN_LINES = 0
    ProgressLog("Checking in a process", 4, "images").advance(number)
    return os.getpid()


def test_the_progress_of_the_preparation_is_in_the_row_until_it_ends(
    job: ResolvedJob, jobs: JobRepository, open_database: Opener
) -> None:
    fetching = ProgressLog("Fetching s3://b/set/", 200, "files")
    with show_preparation(job, open_database):
        fetching.advance(50)
        wait_for(jobs, "Fetching s3://b/set/: 50 of 200 files (25 %)")
        fetching.advance(50)
        wait_for(jobs, "Fetching s3://b/set/: 100 of 200 files (50 %)")
        assert run_confined(advance, 3, source="set") != os.getpid()
        wait_for(jobs, "Checking in a process: 3 of 4 images (75 %)")
    assert jobs.require_owner("a", "run1").preparation is None
    fetching.advance(50)
    assert jobs.require_owner("a", "run1").preparation is None


def test_progress_that_a_killed_task_left_is_not_shown_for_an_ended_job(
    job: ResolvedJob, jobs: JobRepository
) -> None:
    jobs.record_preparation("a", "run1", "Fetching")
    jobs.record_preparation("a", "another run", "Nothing of this job")
    assert jobs.require_owner("a", "run1").preparation == "Fetching"
    jobs.fail_run("train_yolo", "run1", "The machine is gone")
    assert jobs.require_owner("a", "run1").preparation is None
    claim(jobs, run_id="run2", expected="run1")
    assert jobs.require_owner("a", "run2").preparation is None


def test_an_outage_of_the_database_only_hides_the_progress(job: ResolvedJob) -> None:
    def away() -> AbstractContextManager[psycopg.Connection[Any]]:
        return closing(psycopg.connect("postgresql://127.0.0.1:1/nothing", connect_timeout=2))

    with show_preparation(job, away):
        ProgressLog("Fetching", 2, "files").advance()


def test_an_error_during_the_preparation_is_raised(
    job: ResolvedJob, jobs: JobRepository, open_database: Opener
) -> None:
    def fail() -> Iterator[None]:
        with show_preparation(job, open_database):
            ProgressLog("Fetching", 2, "files").advance()
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="the disk is full"):
        fail()
    assert jobs.require_owner("a", "run1").preparation is None

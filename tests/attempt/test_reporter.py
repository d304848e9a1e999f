"""States are saved at intervals, and the newest state reaches S3 after SIGTERM or a stop request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.attempt import epoch_recorder, preemption
from include.attempt.epoch_recorder import EpochRecorder
from include.attempt.job_record import JobRecord
from include.attempt.memory_watch import MemoryWatch
from include.attempt.preemption import Preempted, Termination, handle_sigterm
from include.attempt.reporter import JobReporter, StoppedNow
from include.attempt.tracking import Tracker
from include.checkpoints.publisher import BackgroundPublisher
from include.checkpoints.store import CheckpointStore
from include.errors import OwnershipLost
from include.jobs.repository import JobRepository
from include.s3.bucket import Bucket
from include.training.contract import MemoryShort, SavedState, TrainingProgress
from tests.support.jobs import epoch_report, started
from tests.support.waiting import until

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

BATCHES = 100


def at(batch: int, seconds: float, epoch: int = 0) -> TrainingProgress:
    return TrainingProgress(epoch, batch, BATCHES, seconds)


def saved(progress: TrainingProgress) -> SavedState:
    return SavedState(progress.epoch, progress.batch, is_best=False, trained_seconds=progress.trained_seconds)


@pytest.fixture
def row(migrated_url: str, jobs: JobRepository) -> JobRecord:
    started(jobs)
    return JobRecord("a", "run1", 1, lambda: closing(psycopg.connect(migrated_url)))


Open = Callable[..., Any]


@pytest.fixture
def reporter(
    row: JobRecord, s3_client: S3Client, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Open:
    """Return a function that opens a reporter; a state is due every 60 s of training, and last.pt exists."""
    monkeypatch.setattr(epoch_recorder, "_PROGRESS_SECONDS", 0.05)
    last = tmp_path / "last.pt"
    last.write_bytes(b"state")
    snapshots = tmp_path / "snapshots"
    snapshots.mkdir()
    store = CheckpointStore(Bucket(s3_client, bucket))

    @contextmanager
    def opened(termination: Termination, memory: MemoryWatch | None = None) -> Iterator[JobReporter]:
        memory = memory or MemoryWatch()
        with (
            EpochRecorder(row) as recorder,
            BackgroundPublisher(store, "a", "8.4", row.record_durable, grace_seconds=60) as publisher,
        ):
            tracker = Tracker(None, "a", None, row.open)
            yield JobReporter(recorder, publisher, tracker, termination, memory, last, snapshots, 60.0)

    return opened


def test_a_state_is_wanted_after_60_seconds_of_unsaved_training(reporter: Open) -> None:
    with reporter(Termination()) as opened:
        wanted = [
            opened.report_progress(at(batch, seconds)) for batch, seconds in ((1, 59.0), (2, 60.0), (3, 61.0))
        ]
        assert wanted == [False, True, True]
        opened.report_state(saved(at(2, 60.0)))
        assert not opened.report_progress(at(4, 119.0))
        assert opened.report_progress(at(5, 121.0))


def test_a_state_is_wanted_before_a_validation_that_would_exceed_the_interval(reporter: Open) -> None:
    with reporter(Termination()) as opened:
        assert not opened.report_progress(at(BATCHES, 10.0))  # the duration of a validation is not known yet
        opened.report(epoch_report(1))
        opened.report_state(SavedState(1, 0, is_best=False, trained_seconds=60.0))
        assert not opened.report_progress(at(1, 61.0, epoch=1))
        assert opened.report_progress(at(BATCHES, 71.0, epoch=1))


def test_sigterm_waits_for_the_state_after_the_batch(
    reporter: Open, s3_client: S3Client, bucket: str, jobs: JobRepository
) -> None:
    def train() -> None:
        with handle_sigterm() as termination, reporter(termination) as opened:
            assert not opened.report_progress(at(1, 1.0))
            os.kill(os.getpid(), signal.SIGTERM)
            assert opened.report_progress(at(2, 2.0))
            assert opened.report_progress(at(3, 3.0))  # an older state was still being written
            opened.report_state(saved(at(3, 3.0)))
            opened.report_progress(at(4, 4.0))

    with pytest.raises(Preempted):
        train()
    stored = CheckpointStore(Bucket(s3_client, bucket)).head("a", "last")
    assert stored is not None
    assert stored.checkpoint is not None
    assert stored.checkpoint.position == (0, 3)
    job = jobs.get("a")
    assert job is not None
    assert (job.durable_epoch, job.durable_batch) == (0, 3)


def test_sigterm_does_not_wait_for_a_batch_that_does_not_end(
    reporter: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preemption, "_BATCH_SECONDS", 0.2)

    def train() -> None:
        with handle_sigterm() as termination, reporter(termination) as opened:
            opened.report_progress(at(1, 1.0))
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()

    with pytest.raises(Preempted):
        train()


def test_a_job_with_a_stop_request_stops_when_its_state_is_saved(reporter: Open, jobs: JobRepository) -> None:
    def train() -> None:
        with reporter(Termination()) as opened:
            assert not opened.report_progress(at(1, 1.0))
            jobs.request_stop("a")
            until(lambda: opened.report_progress(at(2, 1.0)), "the request", pause=0.1)
            newest = at(3, 2.0)
            opened.report_state(saved(newest))
            opened.report_progress(newest)

    with pytest.raises(StoppedNow):
        train()


def test_a_job_that_is_asked_to_stop_after_the_epoch_finishes_it(reporter: Open, jobs: JobRepository) -> None:
    with reporter(Termination()) as opened:
        jobs.request_stop("a", after_epoch=True)
        for batch in range(1, 20):
            assert not opened.report_progress(at(batch, 1.0))
            signal.sigtimedwait([], 0.02)
        assert opened.report(epoch_report(1)) is False


def test_in_a_repeated_epoch_a_stop_waits_for_the_end_but_sigterm_ends_the_job_immediately(
    reporter: Open, jobs: JobRepository
) -> None:
    """No state is saved in a repeated epoch, and a state from its first pass does not allow a stop."""

    def train() -> None:
        with handle_sigterm() as termination, reporter(termination) as opened:
            opened.report_state(saved(at(80, 50.0)))
            jobs.request_stop("a")
            for batch in range(1, 20):
                assert not opened.report_progress(replace(at(batch, 200.0), is_repeated=True))
                signal.sigtimedwait([], 0.02)
            os.kill(os.getpid(), signal.SIGTERM)
            opened.report_progress(replace(at(20, 200.0), is_repeated=True))

    with pytest.raises(Preempted):
        train()


def test_an_attempt_that_lost_its_job_ends_within_the_epoch_and_stores_nothing(
    reporter: Open, jobs: JobRepository, s3_client: S3Client, bucket: str
) -> None:
    def train() -> None:
        with reporter(Termination()) as opened:
            jobs.start_training("a", "run1", 2, 0)
            until(lambda: opened.report_progress(at(1, 1.0)), "the loss", pause=0.05)

    with pytest.raises(OwnershipLost):
        train()
    assert CheckpointStore(Bucket(s3_client, bucket)).head("a", "last") is None


def used_bytes() -> int:
    return int(Path("/proc/self/smaps_rollup").read_text().split("Pss:")[1].split()[0]) * 1024


def test_an_attempt_whose_memory_grows_ends_when_its_state_is_saved(reporter: Open) -> None:
    usual = used_bytes()
    memory = MemoryWatch(limit=int(usual / 0.8), least_seconds=0)

    def train() -> None:
        with reporter(Termination(), memory) as opened:
            assert not opened.report_progress(at(1, 1.0))
            memory.check()
            ballast = b"1" * int(usual * 0.25)
            memory.check()
            assert opened.report_progress(at(2, 2.0))
            opened.report_state(saved(at(2, 2.0)))
            opened.report_progress(at(3, 3.0))
            del ballast

    message = r"GiB more than when training started\. The attempt saves its state"
    with pytest.raises(MemoryShort, match=message):
        train()


def test_the_memory_of_loader_workers_counts_although_airflow_hides_it() -> None:
    """Like an Airflow task, the process is non-dumpable, so only root may inspect its memory from outside."""
    program = """
import os, time
from airflow.sdk.execution_time.supervisor import _make_process_nondumpable
from include.attempt.memory_watch import MemoryWatch
_make_process_nondumpable()
watch = MemoryWatch(limit=2**40, least_seconds=0)
with watch:
    watch.note_start()
    watch.check()
    usual = watch.used
    if not (worker := os.fork()):
        ballast = b"1" * 200_000_000
        time.sleep(600)
    deadline = time.monotonic() + 60
    while watch.used < usual + 200_000_000 and time.monotonic() < deadline:
        time.sleep(0.5)
        watch.check()
    print(watch.used - usual)
    os.kill(worker, 9)
"""
    grown = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(grown.stdout) >= 200_000_000


def test_an_attempt_that_starts_with_high_memory_use_only_logs_a_warning(
    reporter: Open, caplog: pytest.LogCaptureFixture
) -> None:
    memory = MemoryWatch(limit=used_bytes(), least_seconds=0)
    with reporter(Termination(), memory) as opened:
        for batch in range(1, 4):
            assert not opened.report_progress(at(batch, 1.0))
            memory.check()
    assert caplog.text.count(": the kernel may kill it. Set a smaller batch") == 1

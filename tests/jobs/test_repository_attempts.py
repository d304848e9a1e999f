"""Only the newest attempt of a run may write; it records its progress and reads requests to stop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from include.errors import OwnershipLost
from include.jobs.job import StopRequest
from include.jobs.repository import JobRepository
from include.training.contract import TrainingProgress
from tests.support.jobs import claim, epoch_report, record_checkpoints, recorded, started, wait_until_blocked

Write = Callable[[JobRepository, str, int], object]

WRITES: dict[str, Write] = {
    "leave_queue": lambda jobs, run_id, attempt: jobs.leave_queue("a", run_id, attempt),
    "start_training": lambda jobs, run_id, attempt: jobs.start_training("a", run_id, attempt, first_epoch=0),
    "record_epoch": lambda jobs, run_id, attempt: jobs.record_epoch("a", run_id, attempt, epoch_report(2)),
    "record_progress": lambda jobs, run_id, attempt: jobs.record_progress(
        "a", run_id, attempt, TrainingProgress(1, 3, 5, 60.0)
    ),
    "record_durable": lambda jobs, run_id, attempt: jobs.record_durable("a", run_id, attempt, 2),
    "record_inexact": lambda jobs, run_id, attempt: jobs.record_inexact("a", run_id, attempt, "time="),
}


@pytest.fixture(params=WRITES)
def write(request: pytest.FixtureRequest) -> Write:
    """Each kind of write that an attempt makes."""
    return WRITES[request.param]


def test_a_new_attempt_reopens_the_row_and_deletes_the_epochs_that_it_repeats(
    connection: psycopg.Connection[Any], jobs: JobRepository
) -> None:
    started(jobs, epochs=3)
    record_checkpoints(connection)
    assert jobs.start_training("a", "run1", 2, first_epoch=1) == 2
    job = recorded(jobs)
    assert (job.status, job.best_checkpoint_path, job.last_checkpoint_sha256) == ("running", None, None)
    assert (job.attempt, job.completed_at) == (2, None)
    assert (job.epoch, job.metrics, job.durable_epoch) == (0, {"loss": 0.0}, 0)
    assert [each.epoch for each in jobs.list_epochs("a")] == [0]


def test_an_attempt_that_resumes_after_the_last_epoch_repeats_nothing(jobs: JobRepository) -> None:
    before = started(jobs, epochs=2)
    assert jobs.start_training("a", "run1", 2, first_epoch=2) == 0
    after = recorded(jobs)
    assert (after.epoch, after.metrics) == (before.epoch, before.metrics) == (1, {"loss": 0.5})
    assert len(jobs.list_epochs("a")) == 2


def test_an_attempt_that_starts_from_scratch_leaves_no_epoch_in_the_row(jobs: JobRepository) -> None:
    started(jobs, epochs=2)
    assert jobs.start_training("a", "run1", 2, first_epoch=0) == 2
    job = recorded(jobs)
    assert (job.epoch, job.metrics) == (None, None)


def test_an_attempt_may_begin_twice(jobs: JobRepository) -> None:
    started(jobs)
    jobs.start_training("a", "run1", 1, first_epoch=0)
    assert recorded(jobs).attempt == 1


def test_another_run_writes_nothing(jobs: JobRepository, write: Write) -> None:
    before = started(jobs, epochs=2)
    with pytest.raises(OwnershipLost, match="Job a no longer belongs to run run2: another run took"):
        write(jobs, "run2", 9)
    assert recorded(jobs) == before
    assert len(jobs.list_epochs("a")) == 2


def test_an_older_attempt_writes_nothing(jobs: JobRepository, write: Write) -> None:
    before = started(jobs, epochs=2, attempt=3)
    with pytest.raises(OwnershipLost, match="to this attempt: a newer attempt of run run1 has started"):
        write(jobs, "run1", 2)
    assert recorded(jobs) == before
    assert len(jobs.list_epochs("a")) == 2


def test_a_write_to_a_deleted_row_names_the_deletion(
    jobs: JobRepository, connection: psycopg.Connection[Any], write: Write
) -> None:
    started(jobs)
    connection.execute("DELETE FROM training_jobs")
    connection.commit()
    with pytest.raises(OwnershipLost, match="Job a no longer has a row in training_jobs"):
        write(jobs, "run1", 1)


def test_a_write_by_an_older_attempt_is_refused_while_a_newer_one_begins(
    jobs: JobRepository, connection: psycopg.Connection[Any], migrated_url: str, write: Write
) -> None:
    started(jobs, epochs=2)
    with psycopg.connect(migrated_url) as older, ThreadPoolExecutor() as threads:
        with connection.transaction():
            jobs.start_training("a", "run1", 2, first_epoch=1)
            writing = threads.submit(write, JobRepository(older), "run1", 1)
            wait_until_blocked(connection, older.info.backend_pid)
            begun = recorded(jobs)
        with pytest.raises(OwnershipLost, match="a newer attempt of run run1 has started"):
            writing.result()
    assert recorded(jobs) == begun
    assert [epoch.epoch for epoch in jobs.list_epochs("a")] == [0]


def test_an_epoch_written_just_before_a_newer_attempt_begins_is_deleted(
    jobs: JobRepository, connection: psycopg.Connection[Any], migrated_url: str
) -> None:
    started(jobs, epochs=2)
    with psycopg.connect(migrated_url) as newer, ThreadPoolExecutor() as threads:
        with connection.transaction():
            jobs.record_epoch("a", "run1", 1, epoch_report(2))
            beginning = threads.submit(JobRepository(newer).start_training, "a", "run1", 2, first_epoch=2)
            wait_until_blocked(connection, newer.info.backend_pid)
        assert beginning.result() == 1
    job = recorded(jobs)
    assert (job.attempt, job.epoch, job.metrics) == (2, 1, {"loss": 0.5})
    assert [epoch.epoch for epoch in jobs.list_epochs("a")] == [0, 1]


def test_the_newest_of_many_concurrent_attempts_owns_the_job(jobs: JobRepository, migrated_url: str) -> None:
    claim(jobs)
    start = threading.Barrier(8)

    def compete(attempt: int) -> None:
        with psycopg.connect(migrated_url) as own, suppress(OwnershipLost):
            start.wait()
            JobRepository(own).start_training("a", "run1", attempt, first_epoch=0)
            JobRepository(own).record_epoch("a", "run1", attempt, epoch_report(attempt=attempt))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(compete, range(1, 9)))
    job = recorded(jobs)
    assert (job.attempt, job.metrics) == (8, {"attempt": 8})
    assert [epoch.metrics for epoch in jobs.list_epochs("a")] == [{"attempt": 8}]


def durable_of(jobs: JobRepository) -> tuple[int | None, int | None]:
    job = recorded(jobs)
    return job.durable_epoch, job.durable_batch


def test_the_durable_position_never_decreases(jobs: JobRepository) -> None:
    started(jobs)
    assert durable_of(jobs) == (None, None)
    newest = (-1, 0)
    for state in ((-1, 7), (-1, 3), (0, 0), (3, 0), (2, 9), (3, 0), (3, 5), (3, 4), (4, 0)):
        jobs.record_durable("a", "run1", 1, *state)
        newest = max(newest, state)
        assert durable_of(jobs) == newest


def test_a_child_has_its_own_state_after_its_first_batch(jobs: JobRepository) -> None:
    claim(jobs, resumed_epoch=8, parent_job_id="parent")
    jobs.start_training("a", "run1", 1, first_epoch=9)
    jobs.record_durable("a", "run1", 1, 8)
    assert not jobs.has_own_state("a")
    jobs.record_durable("a", "run1", 1, 8, 3)
    assert jobs.has_own_state("a")


def test_a_child_of_a_parent_stopped_within_an_epoch_has_no_state_of_its_own_at_first(
    jobs: JobRepository,
) -> None:
    started(jobs, epochs=5)
    jobs.record_durable("a", "run1", 1, 4, 120)
    claim(jobs, "child", "run2", resumed_epoch=4, parent_job_id="a")
    jobs.leave_queue("child", "run2", 1)
    jobs.start_training("child", "run2", 1, first_epoch=5, batch=120)
    jobs.record_durable("child", "run2", 1, 4, 120)
    assert not jobs.has_own_state("child")
    jobs.record_durable("child", "run2", 1, 4, 121)
    assert jobs.has_own_state("child")


def test_progress_within_an_epoch_that_has_ended_records_no_batch(jobs: JobRepository) -> None:
    started(jobs, epochs=2)
    jobs.record_progress("a", "run1", 1, TrainingProgress(0, 50, 50, 0.5))
    assert recorded(jobs).epoch_batch == 0


def test_an_attempt_resets_the_row_to_its_state_and_counts_the_rest_as_lost(
    jobs: JobRepository,
) -> None:
    started(jobs, epochs=2)
    assert jobs.record_progress("a", "run1", 1, TrainingProgress(1, 40, 50, 100.0)) is StopRequest.NONE
    jobs.record_durable("a", "run1", 1, 1, 40)
    job = recorded(jobs)
    assert (job.epoch, job.epoch_batch, job.epoch_batches, job.trained_seconds, job.lost_seconds) == (
        1,
        40,
        50,
        100.0,
        0.0,
    )
    jobs.start_training("a", "run1", 2, first_epoch=2, batch=30, trained_seconds=90.0)
    job = recorded(jobs)
    assert (job.epoch, job.epoch_batch, job.trained_seconds, job.lost_seconds) == (1, 30, 90.0, 10.0)
    assert durable_of(jobs) == (1, 30)
    jobs.start_training("a", "run1", 3, first_epoch=1, trained_seconds=50.0)
    job = recorded(jobs)
    assert (job.epoch, job.epoch_batch, job.trained_seconds, job.lost_seconds) == (0, None, 50.0, 50.0)
    assert durable_of(jobs) == (0, 0)
    jobs.start_training("a", "run1", 4, first_epoch=0)
    assert durable_of(jobs) == (None, 0)
    assert recorded(jobs).lost_seconds == 100.0


def test_the_first_reason_why_weights_may_differ_is_kept(jobs: JobRepository) -> None:
    assert started(jobs).inexact_reason is None
    jobs.record_inexact("a", "run1", 1, "other device")
    jobs.start_training("a", "run1", 2, first_epoch=0)
    jobs.record_inexact("a", "run1", 2, "batch was halved")
    assert recorded(jobs).inexact_reason == "other device"


def test_a_request_to_stop_is_read_at_the_end_of_an_epoch(jobs: JobRepository) -> None:
    started(jobs)
    assert jobs.record_epoch("a", "run1", 1, epoch_report(0)) is StopRequest.NONE
    assert jobs.request_stop("a") is True
    assert jobs.record_epoch("a", "run1", 1, epoch_report(1)) is StopRequest.NOW


def test_a_request_to_stop_now_replaces_a_stop_after_the_epoch(jobs: JobRepository) -> None:
    started(jobs)
    heard = []
    for after_epoch in (True, True, False, True):
        jobs.request_stop("a", after_epoch=after_epoch)
        heard.append(jobs.record_progress("a", "run1", 1, TrainingProgress(-1, 3, 50, 1.0)))
    assert heard == [StopRequest.AFTER_EPOCH, StopRequest.AFTER_EPOCH, StopRequest.NOW, StopRequest.NOW]
    jobs.fail_run("train_yolo", "run1", "out of memory")
    assert recorded(jobs).stop_after_epoch is False


def test_a_stop_request_outlives_a_killed_attempt(jobs: JobRepository) -> None:
    started(jobs, epochs=1)
    jobs.request_stop("a")
    jobs.start_training("a", "run1", 2, first_epoch=1)
    assert jobs.record_epoch("a", "run1", 2, epoch_report(1)) is StopRequest.NOW


def test_a_stop_request_outlives_a_repeated_claim_of_its_run(jobs: JobRepository) -> None:
    claim(jobs)
    jobs.request_stop("a")
    assert claim(jobs, expected="run1").stop_requested is True


def test_a_stop_request_does_not_apply_to_the_next_run(jobs: JobRepository) -> None:
    started(jobs, epochs=1)
    jobs.request_stop("a", after_epoch=True)
    claimed = claim(jobs, run_id="run2", expected="run1")
    assert (claimed.stop_requested, claimed.stop_after_epoch) == (False, False)


def test_a_refusal_ends_the_stop_request_of_its_job(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("INSERT INTO training_jobs (job_id, status) VALUES ('a', 'queued')")
    jobs.request_stop("a", after_epoch=True)
    assert jobs.refuse("a", "wrong parameters")
    assert recorded(jobs).stop_after_epoch is False


def test_only_an_active_job_can_be_asked_to_stop(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    assert jobs.request_stop("a") is False
    for status in ("completed", "stopped"):
        claim(jobs, status)
        record_checkpoints(connection, job_id=status, status=status)
    claim(jobs, "failed", run_id="run2")
    jobs.fail_run("train_yolo", "run2", "out of memory")
    for job_id in ("completed", "stopped", "failed"):
        assert jobs.request_stop(job_id) is False
        assert recorded(jobs, job_id).stop_requested is False


@pytest.mark.parametrize("status", ["completed", "stopped"])
def test_a_stop_request_ends_with_its_job(
    jobs: JobRepository, connection: psycopg.Connection[Any], status: str
) -> None:
    started(jobs)
    jobs.request_stop("a")
    record_checkpoints(connection, status=status)
    assert recorded(jobs).stop_requested is False


def test_a_stop_request_ends_when_its_job_fails(jobs: JobRepository) -> None:
    started(jobs)
    jobs.request_stop("a")
    jobs.fail_run("train_yolo", "run1", "out of memory")
    assert recorded(jobs).stop_requested is False


def test_a_job_that_starts_again_is_not_stopped_by_an_old_request(
    jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    started(jobs, epochs=3)
    record_checkpoints(connection)
    connection.execute("UPDATE training_jobs SET stop_requested = TRUE")
    connection.commit()
    jobs.leave_queue("a", "run1", 2)
    assert recorded(jobs).stop_requested is False


def test_an_attempt_whose_failure_is_recorded_during_its_start_does_not_train(jobs: JobRepository) -> None:
    started(jobs, epochs=2)
    jobs.leave_queue("a", "run1", 2)
    jobs.fail_run("train_yolo", "run1", "marked as success by hand")
    with pytest.raises(
        OwnershipLost, match=r"recorded as failed while .* reason was: marked as success by hand"
    ):
        jobs.start_training("a", "run1", 2, first_epoch=2)
    assert (recorded(jobs).status, recorded(jobs).error) == ("failed", "marked as success by hand")
    jobs.leave_queue("a", "run1", 3)
    jobs.start_training("a", "run1", 3, first_epoch=2)
    assert (recorded(jobs).status, recorded(jobs).error) == ("running", None)


def test_a_stopped_job_can_be_completed(jobs: JobRepository, connection: psycopg.Connection[Any]) -> None:
    started(jobs, epochs=3)
    record_checkpoints(connection, status="stopped")
    stopped = recorded(jobs)
    assert (stopped.status, stopped.durable_epoch, stopped.completed_at) == ("stopped", 2, None)
    assert stopped.last_checkpoint_path == "s3://bucket/checkpoints/a/last.pt"
    jobs.start_training("a", "run1", 2, first_epoch=3)
    record_checkpoints(connection)
    completed = recorded(jobs)
    assert completed.status == "completed"
    assert completed.completed_at is not None

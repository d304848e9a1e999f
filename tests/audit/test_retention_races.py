"""States expire despite kills, races and many objects: a row never names an object that does not exist."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tracemalloc
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import psycopg
import pytest

from include.audit.liveness import Run
from include.audit.request import RetentionPolicy
from include.audit.retention import retain
from include.claim.claimant import RunIdentity
from include.database import Statements
from include.jobs.claim import JobClaim
from include.jobs.job import TrainingJob
from include.jobs.ownership import JobOwnership
from include.jobs.repository import JobRepository, StateExpired
from include.jobs.spec import SpecError
from include.s3.bucket import Bucket
from include.time_limited_connection import TimeLimitedConnection
from tests.support.auditing import NOTHING, WHOLE, World, ended, expired, retained
from tests.support.claims import Claims
from tests.support.jobs import claim, record_checkpoints, wait_until_blocked

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from include.stack.s3 import S3


def test_objects_of_a_job_on_two_pages_of_a_listing_are_deleted_together(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("include.s3.listing.PAGE_SIZE", 2)
    for number in range(5):
        ended(world, f"job-{number}")
    report = retained(world)
    assert expired(world) == {f"job-{number}" for number in range(5)}
    assert (report.jobs, report.objects) == (5, 10)


def _die(**_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _retain_until_killed(url: str, endpoint_url: str, access_key: str, secret_key: str, bucket: str) -> None:
    """Run retention, and be killed at the first request that deletes something."""
    client = boto3.client(
        "s3",
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        region_name="us-east-1",
    )
    client.meta.events.register(
        "before-call.s3.DeleteObject", lambda **_: os.kill(os.getpid(), signal.SIGKILL)
    )
    with psycopg.connect(url) as connection:
        retain(connection, Bucket(client, bucket), NOTHING, lambda runs: set(), datetime.now(UTC))


def test_objects_left_by_a_run_killed_after_the_mark_are_deleted_by_the_next_run(
    world: World, migrated_url: str, s3: S3
) -> None:
    ended(world, "a")
    arguments = (migrated_url, s3.endpoint_url, s3.access_key, s3.secret_key, world.bucket)
    process = multiprocessing.get_context("spawn").Process(target=_retain_until_killed, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    marked = world.get("a")
    assert marked["last_checkpoint_expired_at"] is not None
    assert marked["last_checkpoint_path"] is None
    assert world.names("a") == WHOLE
    assert world.audit().failure is None  # no row names a missing object
    generous = RetentionPolicy(keep_newest=100, keep_best=100, expire_after_days=1000, dry_run=True)
    assert retained(world, generous).objects == 2
    assert world.names("a") == WHOLE
    retained(world, generous.model_copy(update={"dry_run": False}))
    assert expired(world) == {"a"}
    assert world.get("a")["last_checkpoint_expired_at"] == marked["last_checkpoint_expired_at"]


def test_a_job_that_is_trained_again_after_the_mark_keeps_its_new_state(world: World) -> None:
    world.job("a", last_checkpoint_expired_at=datetime.now(UTC))
    world.change("a", last_checkpoint_path=None, last_checkpoint_sha256=None, last_checkpoint_size=None)
    jobs = JobRepository(world.connection)
    claim(jobs, "a", "another run", expected="run of a", fresh=True)
    assert retained(world).objects == 0
    jobs.start_training("a", "another run", 1, first_epoch=0)
    assert retained(world).objects == 0
    record_checkpoints(world.connection, "another run")
    row = world.get("a")
    assert (row["last_checkpoint_expired_at"], row["status"]) == (None, "completed")
    assert world.names("a") == WHOLE


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE training_jobs SET pinned = TRUE WHERE job_id = 'a'",
        "UPDATE training_jobs SET status = 'running' WHERE job_id = 'a'",
        "UPDATE training_jobs SET run_id = 'another' WHERE job_id = 'a'",
        "INSERT INTO training_jobs (job_id, status, parent_job_id) VALUES ('child', 'running', 'a')",
        "INSERT INTO model_versions VALUES ('digits', 1, 'a', NULL, 'candidate', 's3://b/k', 'x', 1)",
    ],
)
def test_a_job_that_changes_after_it_was_chosen_is_not_marked(
    world: World, migrated_url: str, change: str
) -> None:
    ended(world, "a")

    def meanwhile(runs: Collection[Run]) -> set[Run]:
        with psycopg.connect(migrated_url, autocommit=True) as other:
            other.execute(change)
        return set()

    assert retained(world, live_runs=meanwhile).objects == 0
    row = world.get("a")
    assert (row["last_checkpoint_expired_at"], row["last_checkpoint_path"]) == (
        None,
        world.uri("a", "last.pt"),
    )
    assert world.names("a") == WHOLE


RESUMABLE = {"model": "yolo11n", "dataset": "digits", "task": "detect"}
LATER = RunIdentity("train_yolo", "another run", datetime.now(UTC), "ada")


def _start(world: World, url: str, client: S3Client, **params: str | int) -> None:
    """Start or resume a job, over separate connections."""
    with psycopg.connect(url) as other:
        Claims(other, client, world.bucket)(params, LATER, JobOwnership(open_to_all=True))


def test_a_job_whose_state_is_being_deleted_is_not_resumed(world: World, migrated_url: str, s3: S3) -> None:
    """The row is marked already, but S3 still has the state, which would be deleted under the new run."""
    ended(world, "a", status="failed", spec=RESUMABLE)
    refusals: list[str] = []

    def resume(**_: object) -> None:
        with pytest.raises(SpecError) as refusal:
            _start(world, migrated_url, s3.client(), job_id="a", model="yolo11n", dataset="digits")
        refusals.append(str(refusal.value))

    event = "before-call.s3.DeleteObject"
    world.client.meta.events.register(event, resume)
    try:
        assert retained(world).objects == 2
    finally:
        world.client.meta.events.unregister(event, resume)
    assert "last.pt was deleted by the retention policy on" in refusals[0]
    assert expired(world) == {"a"}


@pytest.mark.parametrize("params", [{"job_id": "a", "dataset": "digits"}, {"resume_from": "a", "epochs": 9}])
def test_a_run_that_has_found_a_state_does_not_claim_its_job_once_the_state_has_expired(
    world: World, migrated_url: str, s3: S3, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any]
) -> None:
    ended(world, "a", status="stopped", spec=RESUMABLE, epochs=9)
    claim_found = JobRepository.claim

    def claim_late(jobs: JobRepository, found: JobClaim) -> TrainingJob:
        retained(world)
        return claim_found(jobs, found)

    monkeypatch.setattr(JobRepository, "claim", claim_late)
    with pytest.raises(
        StateExpired, match=r"='a' can no longer be resumed: its last.pt has just been deleted"
    ):
        _start(world, migrated_url, s3.client(), **params)
    assert expired(world) == {"a"}
    assert world.get("a")["run_id"] == "run of a"


def test_a_state_is_kept_for_a_job_that_is_being_recorded(world: World, migrated_url: str, s3: S3) -> None:
    ended(world, "a", spec=RESUMABLE, epochs=5)
    with psycopg.connect(migrated_url) as claiming, ThreadPoolExecutor(1) as threads:
        with claiming.transaction():
            claims = Claims(claiming, s3.client(), world.bucket)
            claims(
                {"job_id": "child", "resume_from": "a", "epochs": 9}, LATER, JobOwnership(open_to_all=True)
            )
            retaining = threads.submit(retained, world)
            wait_until_blocked(claiming, world.connection.info.backend_pid)
        assert retaining.result().objects == 0
    assert world.get("a")["last_checkpoint_expired_at"] is None
    assert world.names("a") == WHOLE


def test_a_run_that_resumes_a_job_and_retention_do_not_wait_for_one_another(
    world: World, migrated_url: str
) -> None:
    """Both need the rows of the job and of its parent, which a third session holds for a moment."""
    ended(world, "a", status="failed", spec=RESUMABLE)
    ended(world, "b", spec=RESUMABLE)
    with (
        psycopg.connect(migrated_url) as other,
        psycopg.connect(migrated_url) as claiming,
        ThreadPoolExecutor(2) as threads,
    ):
        Statements(other).fetch_one("hold_job", job_id="b")
        retaining = threads.submit(retained, world)
        wait_until_blocked(other, world.connection.info.backend_pid)
        resuming = threads.submit(
            claim, JobRepository(claiming), "a", "another run", "run of a", parent_job_id="b"
        )
        wait_until_blocked(other, claiming.info.backend_pid)
        other.rollback()
        assert retaining.result().jobs == 2
        with pytest.raises(StateExpired):
            resuming.result()


def test_the_ranking_has_a_longer_timeout_than_other_statements(
    world: World, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here the ranking takes longer because another connection has locked the table."""
    monkeypatch.setattr("include.time_limited_connection.RESPONSE_SECONDS", 3.0)
    ended(world, "a")
    with psycopg.connect(migrated_url) as other, ThreadPoolExecutor(1) as threads:
        other.execute("LOCK training_jobs")
        with TimeLimitedConnection.connect(migrated_url) as limited:
            limited.execute("SET statement_timeout = '2s'")
            limited.commit()
            retaining = threads.submit(retained, replace(world, connection=limited))
            with pytest.raises(TimeoutError):
                retaining.result(5)
            other.rollback()
            assert retaining.result().jobs == 1


def test_a_pooler_may_run_each_transaction_in_another_session(world: World) -> None:
    """PgBouncer does so in its transaction mode. Another session lacks the temporary objects of this one."""
    ended(world, "a")

    def continue_elsewhere(_: Collection[Run]) -> set[Run]:
        world.connection.execute("DISCARD TEMP")
        world.connection.commit()
        return set()

    assert retained(world, live_runs=continue_elsewhere).jobs == 1
    assert expired(world) == {"a"}


def test_an_object_that_is_replaced_after_the_mark_is_not_deleted(world: World) -> None:
    ended(world, "a", previous=None)

    def write(**_: object) -> None:
        world.put(world.uri("a", "last.pt"), b"of a new training")

    event = "before-call.s3.DeleteObject"
    world.client.meta.events.register(event, write)
    try:
        report = retained(world)
    finally:
        world.client.meta.events.unregister(event, write)
    assert report.objects == 0
    assert world.body(world.uri("a", "last.pt")) == b"of a new training"


def _peak(work: Callable[[], object]) -> int:
    """Return the peak of the bytes that `work` allocates."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_four_times_as_many_objects_take_no_more_memory(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages are small here, so that few objects fill many pages; the benchmark has 100,000 objects."""
    monkeypatch.setattr("include.s3.listing.PAGE_SIZE", 25)
    monkeypatch.setattr("include.audit.recorded.PAGE_ROWS", 8)
    policy = NOTHING.model_copy(update={"dry_run": True})

    def everything() -> None:
        world.audit()
        retained(world, policy)

    world.plant(jobs=5)
    everything()  # so that modules and caches that are loaded only once do not count
    world.plant(jobs=30, start=5)
    small = _peak(everything)
    world.plant(jobs=105, start=35)
    assert _peak(everything) < 1.3 * small
    assert retained(world, policy).objects == 2 * 140
    world.clear()

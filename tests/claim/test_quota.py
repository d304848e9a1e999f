"""A quota lets a job start, makes it wait or refuses it: on a real PostgreSQL and a real S3."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from include.claim.claimant import RunIdentity
from include.claim.quota import QuotaReached, QuotaWait
from include.claim.resolve import check, resolve
from include.claim.resolved_job import ResolvedJob
from include.errors import OwnershipLost
from include.jobs.ownership import JobOwnership
from include.jobs.repository import JobRepository
from tests.support.claims import Claims
from tests.support.jobs import claim, record_checkpoints, recorded
from tests.support.quotas import record_use

CREATED = datetime(2026, 11, 25, 12, tzinfo=UTC)
RUN = RunIdentity("train_yolo", "run1", CREATED, "ada", CREATED)
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)

NO_ADMINISTRATORS = JobOwnership()

Resolve = Callable[..., ResolvedJob]


@pytest.fixture
def within_quota(resolving: Claims) -> Resolve:
    """Resolve job `name` in run{number} under the given quota."""

    def run(
        name: str,
        number: int,
        user: str | None = "ada",
        *,
        ownership: JobOwnership = NO_ADMINISTRATORS,
        just_check: bool = False,
        device: Any = None,
        **quota: Any,
    ) -> Any:
        queued_at = CREATED + timedelta(minutes=number)
        identity = replace(RUN, run_id=f"run{number}", triggered_by=user, queued_at=queued_at)
        do = check if just_check else resolve
        return do({"job_id": name, "device": device}, resolving.claimant(identity, ownership, **quota))

    return run


def waits(within_quota: Resolve, *args: Any, **given: Any) -> QuotaWait:
    with pytest.raises(QuotaWait) as wait:
        within_quota(*args, **given)
    return wait.value


def test_a_job_above_the_quota_waits_until_another_of_its_user_has_ended(
    within_quota: Resolve, jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    within_quota("a", 1, gpus="1")
    wait = waits(within_quota, "b", 2, gpus="1")
    assert str(wait) == (
        "ada may have 1 GPU at a time (QUOTA_GPUS), and their other jobs have 1 (a): "
        "this job waits until enough of them end"
    )
    held = recorded(jobs, "b")
    assert (held.status, held.waits_for_quota, held.waits_for_gpu) == ("queued", True, False)
    waits(within_quota, "b", 2, gpus="1")
    record_checkpoints(connection, "run1", job_id="a")
    assert within_quota("b", 2, gpus="1").job_id == "b"
    begun = recorded(jobs, "b")
    assert (begun.waits_for_quota, begun.waits_for_gpu, begun.queued_at) == (False, True, held.queued_at)


def test_a_job_that_is_cancelled_while_it_waits_for_its_quota_remains_stopped(
    within_quota: Resolve, jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    within_quota("a", 1, gpus="1")
    waits(within_quota, "b", 2, gpus="1")
    jobs.cancel("b")
    cancelled = recorded(jobs, "b")
    record_checkpoints(connection, "run1", job_id="a")
    with pytest.raises(OwnershipLost, match="Job b was cancelled while it waited"):
        within_quota("b", 2, gpus="1")
    assert recorded(jobs, "b") == cancelled


def test_jobs_of_one_user_start_in_the_order_in_which_they_were_queued(
    within_quota: Resolve, connection: psycopg.Connection[Any]
) -> None:
    within_quota("a", 1, gpus="2")
    within_quota("b", 2, gpus="2")
    large = waits(within_quota, "large", 3, device="0,1", gpus="2")
    small = waits(within_quota, "small", 4, gpus="2")
    record_checkpoints(connection, "run1", job_id="a")
    assert "with 1 more ahead in the queue" in str(waits(within_quota, "small", 4, gpus="2"))
    assert small.pause == 2 * large.pause
    again = waits(within_quota, "large", 3, device="0,1", gpus="2")
    assert ("more ahead" in str(again), again.pause) == (False, large.pause)  # small is queued behind large
    record_checkpoints(connection, "run2", job_id="b")
    within_quota("large", 3, device="0,1", gpus="2")
    record_checkpoints(connection, "run3", job_id="large")
    within_quota("small", 4, gpus="2")


def test_one_user_does_not_wait_for_another(within_quota: Resolve) -> None:
    within_quota("a", 1, gpus="1")
    waits(within_quota, "b", 2, gpus="1")
    within_quota("c", 3, "eve", gpus="1")


def test_the_quota_of_the_owner_applies_even_if_another_user_resumes_the_job(
    within_quota: Resolve, jobs: JobRepository
) -> None:
    within_quota("a", 1)
    jobs.fail_run("train_yolo", "run1", "the dataset is empty")
    within_quota("b", 2)
    administrators = JobOwnership(administrators=frozenset({"eve"}))
    wait = waits(within_quota, "a", 3, "eve", gpus="1", ownership=administrators)
    assert str(wait).startswith("ada may have 1 GPU at a time (QUOTA_GPUS), and their other jobs have 1 (b)")
    assert recorded(jobs, "a").triggered_by == "ada"


def test_a_scheduled_job_has_the_quota_of_its_owner(within_quota: Resolve) -> None:
    owned = JobOwnership(scheduled_owner="ada")
    within_quota("a", 1)
    waits(within_quota, "b", 2, None, gpus="1", ownership=owned)
    within_quota("c", 3, None, gpus="1")  # job c has no owner


def test_only_one_of_two_simultaneous_claims_gets_the_last_gpu(
    jobs: JobRepository, migrated_url: str
) -> None:
    ready = threading.Barrier(8)

    def take(number: int) -> bool:
        with psycopg.connect(migrated_url) as connection:
            ready.wait()
            return claim(
                JobRepository(connection), f"job{number}", f"run{number}", gpu_limit=3
            ).waits_for_quota

    with ThreadPoolExecutor(8) as pool:
        waiting = list(pool.map(take, range(8)))
    assert waiting.count(False) == 3


def test_a_run_that_claims_its_job_again_keeps_its_gpu(
    within_quota: Resolve, jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    within_quota("a", 1, gpus="1")
    waits(within_quota, "b", 2, gpus="1")
    within_quota("a", 1, gpus="1")
    jobs.leave_queue("a", "run1", 1)
    record_use(connection, "old", MONDAY, 200)
    within_quota("a", 1, gpus="0", gpu_hours="100", users="ada=1:100")


def test_a_job_that_needs_more_gpus_than_its_user_may_have_is_refused(
    within_quota: Resolve, jobs: JobRepository
) -> None:
    with pytest.raises(QuotaReached) as refusal:
        within_quota("a", 1, device="0,1,2,3", gpus="2")
    assert str(refusal.value) == (
        "device='0,1,2,3' needs 4 GPUs, but ada may have 2 at a time (QUOTA_GPUS): request fewer, or ask an "
        "administrator for more"
    )
    assert refusal.value.field == "device"
    assert jobs.get("a") is None


def test_without_gpu_hours_no_new_job_starts_before_monday(
    within_quota: Resolve, jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    record_use(connection, "old", MONDAY, 41.5)
    within_quota("a", 1, gpu_hours="41.6", now=CREATED)
    with pytest.raises(QuotaReached) as refusal:
        within_quota("b", 2, gpu_hours="41.5", now=CREATED)
    assert str(refusal.value) == (
        "GPU hours: ada has used 41.5 of 41.5 this week (QUOTA_GPU_HOURS), so no new training run starts "
        "before Monday, 2026-11-30, 00:00 UTC; training runs that have begun continue and can be resumed. "
        "Trigger this one again then, or ask an administrator for more"
    )
    assert refusal.value.field == ""
    assert jobs.get("b") is None
    within_quota("b", 2, gpu_hours="41.5", now=MONDAY + timedelta(days=7))


def test_a_job_that_has_begun_may_be_finished_however_many_gpu_hours_were_used(
    within_quota: Resolve, jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    within_quota("a", 1, gpu_hours="100", now=CREATED)
    jobs.leave_queue("a", "run1", 1)
    jobs.fail_run("train_yolo", "run1", "the machine burnt down")
    record_use(connection, "old", MONDAY, 200)
    within_quota("a", 2, gpu_hours="100", now=CREATED)
    assert recorded(jobs).run_id == "run2"


def test_a_job_that_never_began_counts_as_new(
    within_quota: Resolve, jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    within_quota("a", 1, gpu_hours="100", now=CREATED)
    jobs.fail_run("train_yolo", "run1", "the dataset is empty")
    record_use(connection, "old", MONDAY, 200)
    with pytest.raises(QuotaReached):
        within_quota("a", 2, gpu_hours="100", now=CREATED)


def test_a_check_predicts_the_decision_and_writes_nothing(
    within_quota: Resolve, jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    quota = {"gpus": "1", "gpu_hours": "9", "now": CREATED, "just_check": True}
    assert within_quota("b", 2, **quota) is None
    within_quota("a", 1)
    assert "other jobs have 1 (a)" in str(within_quota("b", 2, **quota))
    assert jobs.get("b") is None
    with pytest.raises(QuotaReached, match="needs 2 GPUs"):
        within_quota("b", 2, device="0,1", **quota)
    record_use(connection, "old", MONDAY, 9)
    with pytest.raises(QuotaReached, match="GPU hours"):
        within_quota("b", 2, **quota)

"""A run can take over, start over and continue only jobs of the user who triggered the run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from airflow.sdk.exceptions import AirflowFailException

from include.claim.claimant import RunIdentity
from include.claim.resolve import check
from include.claim.resolved_job import ResolvedJob
from include.deployment.settings import SettingRefused, Settings
from include.jobs.ownership import JobOwnership
from include.jobs.repository import JobRepository
from include.jobs.spec import SpecError
from include.orchestration.failures import record_task_failure
from include.stack.s3 import S3
from include.tasks.train_yolo import resolve_config
from tests.support.airflow_connections import context_of, context_of_run, lead_to
from tests.support.claims import OWNERS, RUN, Claims
from tests.support.jobs import recorded, started

Resolve = Callable[..., ResolvedJob]

FIRST = RUN
"""The run of ada that starts job a."""
SCHEDULED = replace(FIRST, triggered_by=None)

BY_EVE = replace(FIRST, run_id="manual__2", triggered_by="eve")
BY_ROOT = replace(BY_EVE, triggered_by="root")
AGAIN = replace(FIRST, run_id="manual__2")

ANYONE = JobOwnership(open_to_all=True)

RESUME = {"job_id": "a", "model": "yolo11n"}
START_OVER = RESUME | {"fresh": True}
CONTINUE = {"job_id": "b", "resume_from": "a", "epochs": 200}


@pytest.fixture
def checked(resolving: Claims) -> Resolve:
    """Resolve parameters for a run, after the check that the API makes before the run exists."""

    def run(params: dict[str, Any], run: RunIdentity, ownership: JobOwnership = OWNERS) -> ResolvedJob:
        check(params, resolving.claimant(run, ownership))
        return resolving(params, run, ownership)

    return run


@pytest.mark.parametrize(
    ("params", "action"),
    [
        (RESUME, "resume it under the same id. Give another job_id, or ask one of them"),
        (START_OVER, "start it over. Give another job_id, or ask one of them"),
    ],
)
def test_somebody_elses_run_is_refused_and_changes_nothing(
    checked: Resolve, jobs: JobRepository, params: dict[str, Any], action: str
) -> None:
    checked(RESUME, FIRST)
    before = recorded(jobs)
    with pytest.raises(SpecError) as refusal:
        checked(params, BY_EVE)
    assert (
        str(refusal.value)
        == f"job_id='a' belongs to ada; only ada or a job administrator (root) may {action}"
    )
    assert refusal.value.field == "job_id"
    assert recorded(jobs) == before


def test_a_new_job_cannot_continue_somebody_elses_job(checked: Resolve, jobs: JobRepository) -> None:
    checked(RESUME, FIRST)
    with pytest.raises(
        SpecError, match=r"^resume_from='a': job_id='a' belongs to ada; .* model='job:a'"
    ) as refusal:
        checked(CONTINUE, BY_EVE)
    assert refusal.value.field == "resume_from"
    assert jobs.get("b") is None
    # Users who may continue job a get the error of a later check.
    for run in (AGAIN, BY_ROOT):
        with pytest.raises(SpecError, match=r"^resume_from='a' has no last.pt in S3"):
            checked(CONTINUE, run)


@pytest.mark.parametrize("params", [RESUME, START_OVER])
@pytest.mark.parametrize(
    ("run", "ownership", "owned_by"),
    [(AGAIN, OWNERS, "ada"), (BY_ROOT, OWNERS, "ada"), (BY_EVE, ANYONE, "eve")],
)
def test_the_owner_and_administrators_take_over_a_job_and_it_keeps_its_owner(
    checked: Resolve,
    jobs: JobRepository,
    params: dict[str, Any],
    run: RunIdentity,
    ownership: JobOwnership,
    owned_by: str,
) -> None:
    """The exception: if jobs are open to all, the user who takes over a job becomes its owner."""
    checked(RESUME, FIRST)
    checked(params, run, ownership)
    assert (recorded(jobs).run_id, recorded(jobs).triggered_by) == ("manual__2", owned_by)


def test_a_run_that_has_the_id_of_a_deleted_run_does_not_inherit_its_job(checked: Resolve) -> None:
    checked(RESUME, FIRST)
    later = datetime.now(UTC) + timedelta(seconds=1)
    for created_at in (later, FIRST.created_at):
        with pytest.raises(SpecError, match=r"^job_id='a' belongs to ada"):
            checked(RESUME, replace(BY_EVE, run_id="manual__1", created_at=created_at))


def test_a_scheduled_job_belongs_to_the_configured_owner(checked: Resolve, jobs: JobRepository) -> None:
    ownership = replace(OWNERS, scheduled_owner="ada")
    checked(RESUME, SCHEDULED, ownership)
    assert recorded(jobs).triggered_by == "ada"
    with pytest.raises(SpecError, match=r"^job_id='a' belongs to ada"):
        checked(RESUME, BY_EVE, ownership)
    checked(RESUME, SCHEDULED, replace(ownership, scheduled_owner="eve"))  # a cleared run keeps its job
    assert recorded(jobs).triggered_by == "ada"
    checked(RESUME, AGAIN, ownership)


def test_a_scheduled_job_without_an_owner_belongs_to_the_schedule(
    checked: Resolve, jobs: JobRepository
) -> None:
    checked(RESUME, SCHEDULED)
    with pytest.raises(
        SpecError,
        match=r"^job_id='a' has no owner: a schedule started it; only a job administrator \(root\) may",
    ):
        checked(RESUME, BY_EVE)
    checked(START_OVER, replace(SCHEDULED, run_id="scheduled__2"))
    assert recorded(jobs).triggered_by is None
    checked(RESUME, BY_ROOT)
    assert recorded(jobs).triggered_by == "root"


def test_a_row_of_a_host_application_belongs_to_the_user_who_trains_it_unless_it_names_an_owner(
    checked: Resolve, jobs: JobRepository, connection: psycopg.Connection[Any]
) -> None:
    connection.execute("INSERT INTO training_jobs (job_id, status) VALUES ('a', 'queued')")
    checked(RESUME, BY_EVE)
    assert recorded(jobs).triggered_by == "eve"
    connection.execute("UPDATE training_jobs SET run_id = NULL, dag_id = NULL, triggered_by = 'ada'")
    with pytest.raises(SpecError, match=r"^job_id='a' belongs to ada"):
        checked(RESUME, replace(BY_EVE, run_id="manual__3"))
    checked(RESUME, BY_ROOT)  # the host application's own account
    assert recorded(jobs).triggered_by == "ada"


def test_somebody_elses_run_does_not_fail_a_job_that_waits_for_its_first_run(
    checked: Resolve,
    jobs: JobRepository,
    connection: psycopg.Connection[Any],
    migrated_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", migrated_url)
    connection.execute(
        "INSERT INTO training_jobs (job_id, status, triggered_by) VALUES ('a', 'queued', 'eve')"
    )
    connection.commit()
    with pytest.raises(SpecError, match="belongs to eve"):
        checked(RESUME, FIRST)
    record_task_failure(context_of(RESUME, exception=SpecError("refused")))  # from ada's run
    assert (recorded(jobs).status, recorded(jobs).error) == ("queued", None)


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("eve", "job_id='a' belongs to ada"),
        (None, "job_id='a' belongs to ada"),  # a schedule, which does not own ada's jobs
        ("root", "job_id='a' stored its state after"),  # ownership passes; this test stored no state
    ],
)
def test_resolve_config_asks_airflow_who_triggered_its_run(
    jobs: JobRepository,
    monkeypatch: pytest.MonkeyPatch,
    migrated_url: str,
    s3: S3,
    bucket: str,
    tmp_path: Path,
    user: str | None,
    message: str,
) -> None:
    started(jobs, epochs=1)
    lead_to(monkeypatch, migrated_url, s3, bucket, tmp_path)
    monkeypatch.setenv("JOB_ADMINISTRATORS", "root")
    monkeypatch.setattr("include.tasks.train_yolo.is_running", lambda dag_id, run_id: False)
    with pytest.raises(AirflowFailException, match=message):
        resolve_config(context_of_run("run2", RESUME, user))


def test_settings_define_who_may_change_which_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOB_ADMINISTRATORS", " root, ada,")
    monkeypatch.setenv("SCHEDULED_JOBS_OWNER", "eve")
    assert Settings.from_environment().ownership == JobOwnership(
        administrators=frozenset({"root", "ada"}), scheduled_owner="eve"
    )
    monkeypatch.setenv("JOB_OWNERSHIP", "Anyone")
    assert Settings.from_environment().ownership.open_to_all
    monkeypatch.setenv("JOB_OWNERSHIP", "everyone")
    with pytest.raises(SettingRefused, match=r"^JOB_OWNERSHIP='everyone' must be 'owner'"):
        Settings.from_environment()

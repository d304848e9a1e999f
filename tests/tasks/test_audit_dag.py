"""audit_checkpoints and delete_data on a real scheduler: their repairs, deletions and reports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest
import requests

from include.deployment.settings import DEFAULT_BUCKET
from include.stack.local import Stack
from tests.support.airflow_client import Airflow
from tests.support.api_client import token
from tests.support.auditing import BEST, LAST, PREVIOUS, WHOLE, World
from tests.support.waiting import until

DAG = "audit_checkpoints"

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def world(airflow_stack: Stack, api: Airflow, tmp_path: Path) -> Iterator[World]:
    """Yield the stack's own database and bucket, in which other tests have left their jobs."""
    client = airflow_stack.s3.client()
    with psycopg.connect(airflow_stack.training_db_url) as connection:
        yield World(connection, client, DEFAULT_BUCKET, tmp_path)
        connection.rollback()
        connection.execute("DELETE FROM training_jobs WHERE job_id LIKE 'audited-%'")


def _ended(api: Airflow, conf: dict[str, Any]) -> tuple[str, dict[str, str]]:
    run_id = api.trigger(DAG, conf)
    api.wait(DAG, run_id)
    return run_id, api.tasks(DAG, run_id)


def _trigger_as_another_person(stack: Stack, conf: dict[str, Any]) -> str:
    """Trigger delete_data as a user who may start every Dag, but is not a job administrator."""
    answer = requests.post(
        f"{stack.url}/api/v2/dags/delete_data/dagRuns",
        json={"conf": conf, "logical_date": None},
        headers={"Authorization": f"Bearer {token(stack, 'admin')}"},
        timeout=60,
    )
    return str(answer.json()["dag_run_id"])


def _found(world: World, run_id: str, job_id: str) -> list[dict[str, Any]]:
    return [row for row in world.findings(run_id) if row["job_id"] == job_id]


def test_a_lost_object_fails_the_audit_after_all_repairs_and_skips_retention(
    api: Airflow, world: World
) -> None:
    world.job("audited-lost", completed_at="2026-01-02")
    world.remove(world.uri("audited-lost", "best.pt"))
    world.row("audited-stuck", status="running", updated_at="2026-01-02")
    run_id, tasks = _ended(api, {"keep_newest": 0, "keep_best": 0, "expire_after_days": 0})
    assert tasks == {"check_schema": "success", "audit": "failed", "retain": "upstream_failed"}
    assert [row["finding"] for row in _found(world, run_id, "audited-lost")] == ["missing"]
    assert [row["repair"] for row in _found(world, run_id, "audited-stuck")] == ["recorded as failed"]
    assert world.get("audited-stuck")["status"] == "failed"
    note = api.note(DAG, run_id)
    assert note is not None
    assert "recorded objects checked" in note


def test_without_lost_objects_a_dry_run_reports_which_states_would_be_deleted(
    api: Airflow, world: World
) -> None:
    for number in range(2):
        world.job(
            f"audited-{number}",
            completed_at=f"2026-01-0{number + 1}",
            spec={"model": "yolo11n", "dataset": "of this test"},
        )
    run_id, tasks = _ended(api, {"keep_newest": 1, "keep_best": 0, "expire_after_days": 0, "sample": 1000})
    lost = [row for row in world.findings(run_id) if row["finding"] in {"missing", "damaged"}]
    assert lost == []
    assert tasks == {"check_schema": "success", "audit": "success", "retain": "success"}
    note = api.note(DAG, run_id)
    assert note is not None
    assert "would be deleted (dry run)" in note
    assert world.get("audited-0")["last_checkpoint_expired_at"] is None
    assert world.body(world.uri("audited-0", "best.pt")) == BEST


def test_an_unknown_parameter_is_refused(api: Airflow) -> None:
    _, tasks = _ended(api, {"dryrun": False})
    assert tasks == {"check_schema": "success", "audit": "failed", "retain": "upstream_failed"}


def _deletion(stack: Stack, method: str, path: str) -> dict[str, Any]:
    """Return the outcome of the deletion that the request starts."""
    run_id = quote(stack.api.call_training_api(method, path)["run_id"], safe="")
    progress: dict[str, Any] = {"state": "deleting"}

    def has_ended() -> bool:
        progress.update(stack.api.call_training_api("GET", f"deletions/{run_id}"))
        return bool(progress["state"] != "deleting")

    until(has_ended, "the deletion ends", 120)
    return progress


def test_a_job_is_deleted_by_the_run_that_the_api_starts_for_its_owner(
    airflow_stack: Stack, api: Airflow, world: World
) -> None:
    world.job("audited-mine", completed_at="2026-01-02", triggered_by=airflow_stack.username)
    deleted = _deletion(airflow_stack, "DELETE", "jobs/audited-mine?confirm=audited-mine")
    assert deleted == {"state": "deleted", "objects": 3, "bytes": len(BEST + LAST + PREVIOUS), "error": None}
    assert world.names("audited-mine") == set()
    row = world.connection.execute("SELECT FROM training_jobs WHERE job_id = 'audited-mine'").fetchone()
    assert row is None


def test_a_user_cannot_delete_jobs_of_others_by_triggering_delete_data(
    airflow_stack: Stack, api: Airflow, world: World
) -> None:
    world.job("audited-eves", completed_at="2026-01-02", triggered_by="eve")
    run_id = _trigger_as_another_person(airflow_stack, {"job_id": "audited-eves"})
    api.wait("delete_data", run_id)
    assert api.tasks("delete_data", run_id) == {"check_schema": "success", "delete": "failed"}
    deletion = airflow_stack.api.call_training_api("GET", f"deletions/{quote(run_id, safe='')}")
    assert (deletion["state"], deletion["objects"]) == ("refused", None)
    assert "job_id='audited-eves' belongs to eve; only eve or a job administrator" in deletion["error"]
    assert world.names("audited-eves") == WHOLE

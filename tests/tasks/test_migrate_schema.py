"""The Dag migrate_schema on a real scheduler: its work, and the requests that it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from include.request import RequestRefused
from include.schema.migrations import verify
from include.schema.request import MigrationRequest
from include.stack.local import Stack
from tests.support import host_applications
from tests.support.waiting import until

DONE = {"plan": "success", "apply": "success", "verify": "success"}


@dataclass(frozen=True)
class Run:
    """The outcome of a run of migrate_schema: the state and the log of each task."""

    states: dict[str, str]
    logs: dict[str, str]


def _run(stack: Stack, **conf: Any) -> Run:
    run_id = stack.api.trigger("migrate_schema", conf)
    under_way = {"queued", "running"}
    until(lambda: stack.api.get_run_state("migrate_schema", run_id) not in under_way, f"the end with {conf}")
    tasks = stack.api.list_task_instances("migrate_schema", run_id)
    states = {task["task_id"]: task["state"] for task in tasks}
    ran = [task for task in tasks if task["state"] in {"success", "failed", "skipped"}]
    logs = {
        task["task_id"]: "\n".join(
            stack.api.read_log("migrate_schema", run_id, task["task_id"], max(1, task["try_number"]))
        )
        for task in ran
    }
    return Run(states, logs)


@pytest.fixture(scope="module")
def migrated(airflow_stack: Stack) -> Run:
    """Return a run without any parameter."""
    return _run(airflow_stack)


@pytest.fixture
def trained_job(airflow_stack: Stack, migrated: Run) -> Iterator[None]:
    """Insert a row, so that a downgrade would lose data."""
    with psycopg.connect(airflow_stack.training_db_url, autocommit=True) as connection:
        connection.execute("INSERT INTO training_jobs (job_id) VALUES ('of-value')")
        yield
        connection.execute("DELETE FROM training_jobs WHERE job_id = 'of-value'")


def test_a_run_without_parameters_migrates_to_the_newest_revision(
    airflow_stack: Stack, migrated: Run
) -> None:
    assert migrated.states == DONE, migrated.logs
    assert "training_jobs.last_checkpoint_path character varying(500)" in migrated.logs["verify"]
    assert verify(host_applications.engine(airflow_stack.training_db_url))


def test_a_dry_run_shows_the_sql_and_applies_nothing(airflow_stack: Stack, migrated: Run) -> None:
    run = _run(airflow_stack, dry_run=True, target="base", confirm_data_loss=True)
    assert run.states == {"plan": "success", "apply": "skipped", "verify": "skipped"}, run.logs
    assert "DROP TABLE training_epochs;" in run.logs["plan"]
    assert "This is a dry run: nothing was changed" in run.logs["apply"]
    assert verify(host_applications.engine(airflow_stack.training_db_url))


def test_a_plan_reports_what_apply_refuses(airflow_stack: Stack, trained_job: None) -> None:
    run = _run(airflow_stack, target="base")
    assert run.states == {"plan": "success", "apply": "failed", "verify": "upstream_failed"}, run.logs
    assert "PROBLEM: Dropping " in run.logs["plan"]
    assert "Confirm with confirm_data_loss: true." in run.logs["apply"]
    assert verify(host_applications.engine(airflow_stack.training_db_url))


@pytest.mark.long  # test_audit_dag.py and the cases below test the same in less time
def test_an_unknown_parameter_is_refused_before_anything_is_read(airflow_stack: Stack, migrated: Run) -> None:
    run = _run(airflow_stack, targt="base")
    assert run.states == {"plan": "failed", "apply": "upstream_failed", "verify": "upstream_failed"}
    assert "targt is not a parameter of migrate_schema; its parameters are target" in run.logs["plan"]


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({"tarrget": "head"}, "tarrget is not a parameter of migrate_schema; its parameters are target, "),
        ({"dry_run": "yes"}, "dry_run='yes' is refused"),
        ({"confirm_data_loss": 1}, "confirm_data_loss=1 is refused"),
        ({"target": 1}, "target=1 is refused"),
        ({"target": ""}, "target='' is refused"),
    ],
)
def test_an_invalid_conf_is_refused_with_the_name_of_the_parameter(
    conf: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestRefused, match=message):
        MigrationRequest.parse(conf)

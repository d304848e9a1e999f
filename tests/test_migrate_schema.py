"""The Dag migrate_schema, run task by task on a real PostgreSQL: what it does, and what it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from include.schema.migrations import apply, verify
from include.schema.request import MigrationRequest, RequestRefused
from include.stack.postgres import Postgres
from tests import platforms

ROOT = Path(__file__).parents[1]

PROGRAM = """
import json, sys
from airflow.dag_processing.dagbag import DagBag
dag = DagBag(dag_folder="dags/migrate_schema.py").get_dag("migrate_schema")
for conf in json.loads(sys.argv[1]):
    run = dag.test(run_conf=conf)
    states = {task.task_id: str(task.state) for task in run.get_task_instances()}
    print("STATES", json.dumps(states))
"""


@pytest.fixture
def url(postgres: Postgres) -> Iterator[str]:
    with platforms.fresh_schema(postgres) as url:
        yield url


@pytest.fixture
def airflow(url: str, tmp_path: Path) -> dict[str, str]:
    """The environment of an Airflow of its own, whose connection training_db leads to the empty schema."""
    environment = os.environ | {
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW_CONN_TRAINING_DB": url,
        "PYTHONPATH": str(ROOT),
    }
    made = subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    return environment


def _run(airflow: dict[str, str], *confs: dict[str, Any]) -> tuple[list[dict[str, str]], str]:
    """The states of the tasks for each conf, and the whole log."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(confs)],
        env=airflow,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lines = [line.removeprefix("STATES ") for line in done.stdout.splitlines() if line.startswith("STATES ")]
    return [json.loads(line) for line in lines], done.stdout


def test_the_dag_plans_applies_verifies_and_refuses(airflow: dict[str, str], url: str) -> None:
    states, log = _run(airflow, {"dry_run": True}, {}, {}, {"targt": "base"}, {"target": "0009"})
    skipped = {"plan": "success", "apply": "skipped", "verify": "skipped"}
    done = {"plan": "success", "apply": "success", "verify": "success"}
    refused = {"plan": "failed", "apply": "upstream_failed", "verify": "upstream_failed"}
    assert states == [skipped, done, done, refused, refused], log
    assert "CREATE TABLE training_jobs" in log
    assert "dry_run: nothing was changed" in log
    assert "training_jobs.last_checkpoint_path character varying(500)" in log
    assert "targt is not a parameter of migrate_schema; its parameters are target, dry_run" in log
    assert "target='0009' is no revision: give head, base, 0001, 0002, or steps" in log
    assert verify(platforms.engine(url))


def test_the_dag_reports_in_its_plan_what_its_apply_refuses(airflow: dict[str, str], url: str) -> None:
    apply(platforms.engine(url))
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO training_jobs (job_id) VALUES ('a')")
    (states,), log = _run(airflow, {"target": "base"})
    assert states == {"plan": "success", "apply": "failed", "verify": "upstream_failed"}, log
    assert "PROBLEM: Dropping table training_jobs would lose what 1 rows hold." in log
    assert "Nothing was changed, because:" in log


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        (
            {"tarrget": "head"},
            r"tarrget is not a parameter of migrate_schema; its parameters are target, dry_run",
        ),
        ({"dry_run": "yes"}, "dry_run='yes' is refused"),
        ({"confirm_data_loss": 1}, "confirm_data_loss=1 is refused"),
        ({"target": 1}, "target=1 is refused"),
        ({"target": ""}, "target='' is refused"),
    ],
)
def test_a_conf_that_is_not_understood_is_refused_by_name(conf: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestRefused, match=said):
        MigrationRequest.parse(conf)

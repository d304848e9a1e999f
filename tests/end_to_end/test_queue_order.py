"""Jobs get GPUs first come, first served, however they were triggered: on the real scheduler."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from include.deployment.settings import DEFAULT_BUCKET, GPU_POOL
from tests.support.airflow_client import Airflow
from tests.support.dataset_steps import upload_files
from tests.support.retrain_plans import SHAPES, START
from tests.support.scheduled_trainings import DAG
from tests.support.stored_objects import replace
from tests.support.tiny_datasets import build
from tests.support.tiny_models import architecture
from tests.support.untrained import best
from tests.support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from include.stack.local import Stack

pytestmark = [pytest.mark.timeout(600), pytest.mark.long]

PLANNED = "retrain_yolo__shapes"
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)
CONF = {"dataset": "digits", "model": "yolo11n", "imgsz": 32, "epochs": 1, "device": "0"}
"""A training run that soon fails on a machine without a GPU: only the order of the starts matters."""


@pytest.fixture
def closed_pool(api: Airflow) -> Iterator[None]:
    """Close the GPU pool: no training begins until the test gives the pool slots."""
    api.set_slots(GPU_POOL, 0)
    yield
    api.set_slots(GPU_POOL, 1)


@pytest.fixture
def shapes(airflow_stack: Stack, tmp_path: Path) -> Iterator[None]:
    """Store the data and the weights that the plan names."""
    client = airflow_stack.s3.client()
    replace(
        client, START, best("detect", tmp_path / "b.pt", architecture=architecture(tmp_path)).read_bytes(), {}
    )
    folder = build("detect", tmp_path / "data", train=4, val=2).parent
    upload_files(client, DEFAULT_BUCKET, folder, "datasets/shapes/")
    yield
    prefix = SHAPES.partition(f"{DEFAULT_BUCKET}/")[2]
    for found in client.list_objects_v2(Bucket=DEFAULT_BUCKET, Prefix=prefix)["Contents"]:
        client.delete_object(Bucket=DEFAULT_BUCKET, Key=found["Key"])


@pytest.fixture
def on_schedule(api: Airflow, shapes: None) -> Iterator[None]:
    """Run the plan's Dag by announcing its data; delete the run, because other tests count the runs."""
    for dag_id in (PLANNED, "watch_dataset"):
        api.pause(dag_id, paused=False)
    api.run("watch_dataset", {"dataset": SHAPES})
    until(lambda: bool(api.runs(PLANNED)), "a run of the plan's own Dag")
    yield
    for run_id in api.runs(PLANNED):
        api.pause(PLANNED, paused=True)
        api.delete(PLANNED, run_id)


def training_tasks(stack: Stack, since: int) -> list[tuple[str, str | None, datetime | None]]:
    """Return the run id, and the state and start of `train`, for all later runs in order of creation."""
    with psycopg.connect(stack.postgres.build_url("airflow")) as connection:
        return connection.execute(
            "SELECT run_id, task_instance.state, task_instance.start_date FROM task_instance "
            "JOIN dag_run USING (dag_id, run_id) WHERE dag_id = %s AND task_id = 'train' AND dag_run.id > %s "
            "ORDER BY dag_run.id",
            [DAG, since],
        ).fetchall()


def newest_run(stack: Stack) -> int:
    with psycopg.connect(stack.postgres.build_url("airflow")) as connection:
        (number,) = connection.execute("SELECT max(id) FROM dag_run").fetchone() or (0,)
    return int(number)


@pytest.mark.usefixtures("closed_pool", "shapes")
def test_runs_start_first_come_first_served_however_they_were_triggered(
    api: Airflow, airflow_stack: Stack, request: pytest.FixtureRequest
) -> None:
    before = newest_run(airflow_stack)
    # Its training run soon fails, like those below.
    retraining = api.trigger("retrain_yolo", {"plan": "shapes", "parameters": {"device": CONF["device"]}})
    until(lambda: len(training_tasks(airflow_stack, before)) == 1, "the training run of retrain_yolo")
    request.getfixturevalue("on_schedule")
    until(lambda: len(training_tasks(airflow_stack, before)) == 2, "the scheduled training run")
    # The models of these runs need not be registered: only the order of the starts matters.
    api.mark("retrain_yolo", retraining, "failed")
    for run_id in api.runs(PLANNED):
        api.mark(PLANNED, run_id, "failed")
    with psycopg.connect(airflow_stack.training_db_url) as connection:
        connection.execute("UPDATE training_jobs SET stop_requested = TRUE WHERE status = 'queued'")
    given: list[tuple[dict[str, Any], datetime | None]] = [
        (CONF, None),  # over REST, and by the console's form
        # By Airflow's form:
        (CONF | {"job_id": "order-form", "fresh": False, "lr0": None}, datetime.now(UTC)),
        (CONF, LONG_AGO),
    ]
    triggered = [api.trigger(DAG, conf, logical_date) for conf, logical_date in given]

    until(
        lambda: [state for _, state, _ in training_tasks(airflow_stack, before)] == ["scheduled"] * 5,
        "five training runs that wait",
    )
    api.set_slots(GPU_POOL, 1)
    until(
        lambda: all(start is not None for _, _, start in training_tasks(airflow_stack, before)),
        "the start of all",
        seconds=400,
    )

    found = training_tasks(airflow_stack, before)
    assert [run_id for run_id, _, _ in found][2:] == triggered
    starts = [start for _, _, start in found]
    assert starts == sorted(starts, key=lambda start: start or LONG_AGO)

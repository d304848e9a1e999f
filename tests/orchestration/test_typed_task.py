"""Typed tasks pass JSON to each other, their functions get models, and a missing result is explained."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowFailException
from airflow.sdk.execution_time.context import set_current_context
from pydantic import ValidationError

from include.checkpoints.checkpoint import Checkpoint
from include.orchestration.typed_task import run_in_order, typed_task

if TYPE_CHECKING:
    from airflow.sdk import Context

FILE = Checkpoint(path="best.pt", sha256="a" * 64, size=1, epoch=2)
JSON = {"path": "best.pt", "sha256": "a" * 64, "size": 1, "epoch": 2, "batch": 0}


@typed_task()
def produce() -> Checkpoint:
    """Return a file."""
    return FILE


@typed_task()
def consume(checkpoint: Checkpoint, note: str | None) -> int:
    """Return the epoch of the file."""
    assert isinstance(checkpoint, Checkpoint)
    return checkpoint.epoch


@typed_task()
def comment() -> str | None:
    """Return nothing."""
    return None


@pytest.fixture(scope="module")
def dag() -> DAG:
    with DAG("typed", schedule=None) as dag:
        run_in_order(consume(produce(), comment()), produce())
    return dag


def run(dag: DAG, task_id: str, **arguments: Any) -> Any:
    """Call the function of the task as Airflow does, with the results of other tasks as arguments."""
    function = cast("Any", dag.get_task(task_id)).python_callable
    with set_current_context(cast("Context", {"ti": SimpleNamespace(task_id=task_id)})):
        return function(**arguments)


def test_results_become_json_and_arguments_become_models(dag: DAG) -> None:
    assert run(dag, "produce") == JSON
    assert run(dag, "consume", checkpoint=JSON, note=None) == 2


def test_a_missing_result_names_the_task_to_clear(dag: DAG) -> None:
    with pytest.raises(AirflowFailException, match="Task produce returned nothing, because it was marked as"):
        run(dag, "consume", checkpoint=None, note=None)


def test_a_result_of_another_type_is_refused(dag: DAG) -> None:
    with pytest.raises(ValidationError, match="sha256"):
        run(dag, "consume", checkpoint={"path": "best.pt"}, note=None)


def test_tasks_wait_for_one_another(dag: DAG) -> None:
    assert dag.get_task("consume").upstream_task_ids == {"produce", "comment"}
    assert dag.get_task("produce__1").upstream_task_ids == {"consume"}

"""A training whose every attempt is killed: fifty-one of them."""

from __future__ import annotations

import time
from typing import Any

import pytest

from dags.train_yolo import PREEMPTIONS
from include.stack.crash import task_processes
from tests.airflow_client import Airflow
from tests.long.gate import GatedStack
from tests.scheduled_trainings import DAG, Training


@pytest.mark.timeout(3600)
def test_a_training_that_is_always_killed_is_given_up_in_the_end(
    api: Airflow, gated_stack: GatedStack, job: dict[str, Any]
) -> None:
    training = Training(api, gated_stack, job | {"job_id": "always-killed"})
    while api.state(DAG, training.run_id) in {"queued", "running"}:
        for process in task_processes(api.attempt(DAG, training.run_id, "train")[0]):
            process.kill()
        time.sleep(0.2)
    row = training.fails()
    assert row["status"] == "failed"
    assert "killed" in row["error"]
    assert training.attempt == PREEMPTIONS + 1

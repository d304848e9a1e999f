"""Training runs that are killed until Airflow gives up, and jobs that continue them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from include.s3.layout import StoredKind
from include.stack.follow import find_task_processes
from tests.long.conftest import EPOCHS
from tests.support.airflow_client import Airflow, recorded_epochs
from tests.support.killing import stop_when
from tests.support.long.gate import GatedStack
from tests.support.scheduled_trainings import DAG, Training, durable_epoch, store, stored_weights

KINDS: tuple[StoredKind, ...] = ("best", "last", "last.previous")


@pytest.mark.timeout(3600)
def test_a_run_whose_attempts_are_always_killed_fails_in_the_end(
    api: Airflow, gated_stack: GatedStack, job_conf: dict[str, Any]
) -> None:
    training = Training(api, gated_stack, job_conf | {"job_id": "always-killed"})
    training.process()
    training.leave_one_retry()  # instead of a thousand retries
    while api.state(DAG, training.run_id) in {"queued", "running"}:
        for process in find_task_processes(api.attempt(DAG, training.run_id, "train")[0]):
            process.kill()
        time.sleep(0.2)
    row = training.fails()
    assert row["status"] == "failed"
    assert "killed" in row["error"]
    assert training.attempt == 2


def test_a_job_that_airflow_gives_up_after_kills_reports_it_and_another_job_continues_it(
    api: Airflow, gated_stack: GatedStack, job_conf: dict[str, Any], uninterrupted: str, tmp_path: Path
) -> None:
    parent = Training(api, gated_stack, job_conf | {"job_id": "given-up"})
    parent.reaches(1)
    parent.leave_one_retry()  # before the kill, because Airflow may count the next attempt immediately
    parent.kill("once", parent.process())
    parent.reaches(3)
    parent.kill("for good", parent.process())
    given_up = parent.fails()
    assert given_up["status"] == "failed"
    assert "killed" in given_up["error"]
    objects = {kind: store(gated_stack).head("given-up", kind) for kind in KINDS}
    resumed = durable_epoch(gated_stack, "given-up")

    child = Training(api, gated_stack, {"job_id": "child", "resume_from": "given-up"})
    process = child.process()
    stop_when(process.pid, lambda: durable_epoch(gated_stack, "child") >= 0)  # once a state is durable
    assert child.recorded == resumed
    assert durable_epoch(gated_stack, "child") == resumed
    with child.before_the_next_attempt():
        child.kill("before its first epoch", process)
        child.wipe()
    row = child.ends()
    assert (row["status"], row["parent_job_id"], row["resumed_epoch"]) == ("completed", "given-up", resumed)
    assert recorded_epochs(gated_stack, "child") == [*range(EPOCHS)]
    assert {kind: store(gated_stack).head("given-up", kind) for kind in KINDS} == objects
    assert parent.row == given_up
    assert stored_weights(gated_stack, "child", tmp_path) == uninterrupted

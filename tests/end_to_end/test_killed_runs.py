"""Killed runs resume by themselves under the real scheduler, and end with the same weights."""

from __future__ import annotations

import hashlib
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from include.checkpoints.checkpoint import name_position
from include.stack.local import Stack
from include.training.loading import load_checkpoint
from tests.support.airflow_client import Airflow, download
from tests.support.scheduled_trainings import (
    DAG,
    Training,
    durable_epoch,
    small_job,
    standing_still,
    stored_weights,
)
from tests.support.stacks import process_of
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(900)

EPOCHS = 20
CUT_SECONDS = 12


@pytest.fixture(scope="module")
def job_conf(airflow_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the parameters of every job in this module."""
    return small_job(airflow_stack, tmp_path_factory.mktemp("model"), EPOCHS)


@pytest.fixture(scope="module")
def uninterrupted(
    api: Airflow, airflow_stack: Stack, job_conf: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> str:
    """Return the hash of the final weights of a job that was never interrupted."""
    training = Training(api, airflow_stack, job_conf | {"job_id": "uninterrupted"})
    assert training.ends()["inexact_reason"] is None
    assert training.attempt == 1
    return stored_weights(airflow_stack, "uninterrupted", tmp_path_factory.mktemp("uninterrupted"))


def require_named_objects(stack: Stack, row: dict[str, Any], folder: Path) -> None:
    """Require that both objects match the row, and that best.pt can be loaded."""
    for kind in ("best", "last"):
        path = download(stack, row[f"{kind}_checkpoint_path"], folder / f"{kind}.pt")
        content = path.read_bytes()
        assert hashlib.sha256(content).hexdigest() == row[f"{kind}_checkpoint_sha256"]
        assert len(content) == row[f"{kind}_checkpoint_size"]
    assert load_checkpoint(folder / "best.pt")["optimizer"] is None


def test_a_run_that_is_killed_moved_and_cut_off_from_s3_ends_with_the_same_weights(
    api: Airflow, airflow_stack: Stack, job_conf: dict[str, Any], uninterrupted: str, tmp_path: Path
) -> None:
    training = Training(api, airflow_stack, job_conf | {"job_id": "moved"})
    training.reaches(random.randrange(2))
    process = training.process()
    time.sleep(random.random())
    training.kill("at random", process)
    training.reaches(3)
    process = training.process()
    time.sleep(random.random())
    with training.before_the_next_attempt():
        training.kill("at random", process)
        training.wipe()
    training.reaches(5)

    process = training.process()
    until(lambda: any((training.folder / "snapshots").rglob("last-*.pt")), "an upload", pause=0.02)
    with standing_still(process_of(airflow_stack.state.path, "s3")):
        cut_at = training.row["durable_epoch"]
        training.reaches(cut_at + 2)  # training continues during the outage
        time.sleep(random.random())
        with training.before_the_next_attempt():
            training.kill("while S3 is cut off", process)
            training.wipe()
        time.sleep(CUT_SECONDS)
        assert api.state(DAG, training.run_id) == "running"

    training.reaches(cut_at + 2)
    process = training.process()
    with training.before_the_next_attempt():
        training.kill("SIGTERM", process, how=signal.SIGTERM)
        assert durable_epoch(airflow_stack, "moved") == training.recorded
        training.wipe()

    row = training.ends()
    assert (row["status"], row["inexact_reason"]) == ("completed", None)
    assert row["initial_weights_path"].endswith("/pretrained/tiny.pt")
    killed, moved, in_the_dark, preempted = training.reported()
    assert killed.went_on_after >= killed.epoch - 1  # its newest state may not have been written
    assert moved.went_on_after >= moved.epoch - 1
    assert in_the_dark.went_on_after >= cut_at
    assert preempted.went_on_after == preempted.epoch
    require_named_objects(airflow_stack, row, tmp_path)
    assert stored_weights(airflow_stack, "moved", tmp_path) == uninterrupted


@pytest.mark.long
def test_a_run_that_hangs_continues_by_itself_and_a_stopped_one_only_with_the_same_parameters(
    api: Airflow, airflow_stack: Stack, job_conf: dict[str, Any], uninterrupted: str, tmp_path: Path
) -> None:
    conf = job_conf | {"job_id": "stopped", "hang_timeout": 10}
    training = Training(api, airflow_stack, conf)
    training.reaches(2)
    process = training.process()
    training.kill("stopped for ever", process, how=signal.SIGSTOP)  # its watchdog kills it
    training.reaches(training.kills[0].epoch + 1)
    assert f"the trainer (process {process.pid}) is stopped (SIGSTOP)" in training.log(1)
    assert " in _do_train" in training.log(1)

    training.request_stop()
    stopped = training.ends()
    assert training.reported()[0].went_on_after >= training.kills[0].epoch
    assert (stopped["status"], stopped["stop_requested"], stopped["completed_at"]) == ("stopped", False, None)
    assert stopped["durable_epoch"] == stopped["epoch"] < EPOCHS - 1
    assert stopped["durable_batch"] == stopped["epoch_batch"]
    require_named_objects(airflow_stack, stopped, tmp_path)

    changed = Training(api, airflow_stack, conf | {"imgsz": 96})
    assert changed.fails() == stopped
    assert "imgsz=96 instead of 64" in changed.log(1, "resolve_config")

    again = Training(api, airflow_stack, conf)
    row = again.ends()
    assert (row["status"], row["origin_run_id"]) == ("completed", training.run_id)
    assert f"Resuming after {name_position((stopped['epoch'], stopped['epoch_batch']))}," in again.log(1)
    assert stored_weights(airflow_stack, "stopped", tmp_path) == uninterrupted

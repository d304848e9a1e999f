"""A run that is killed at every possible stage ends with the same weights."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.long.conftest import EPOCHS
from tests.support.airflow_client import Airflow
from tests.support.killing import stop_when
from tests.support.long.gate import GatedStack, Plan
from tests.support.long.report import Report
from tests.support.scheduled_trainings import (
    Training,
    durable_epoch,
    store,
    stored_weights,
)
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(3600)


class Stages:
    """Kills the current attempt at various stages, in most of them after it has finished another epoch."""

    def __init__(self, training: Training, stack: GatedStack) -> None:
        self.training, self.stack = training, stack
        self.may_lose_its_disk = False
        self.weights, self.snapshots = training.weights, training.folder / "snapshots"

    def starting(self) -> None:
        """Kill the attempt before it has finished its imports."""
        process = self.training.process()
        time.sleep(random.uniform(0, 2))
        self._kill("starting", process)

    def taking_over(self) -> None:
        self._kill_at_the_gate("taking over the state", Plan("PUT", "/last.pt", "received"))

    def in_a_batch(self) -> None:
        process = self._wait_for_epoch()
        time.sleep(random.uniform(0, 1))
        self._kill("at random", process)

    def saving(self) -> None:
        self._kill_when("last.pt is being written", lambda: any(self.weights.glob("last.pt.*.part")))

    def copying(self) -> None:
        self._kill_when("the snapshot exists", lambda: any(self.snapshots.rglob("last-*.pt")))

    def stripping(self) -> None:
        self._kill_when("best.pt is being stripped", lambda: any(self.weights.glob("best.pt.*.part")))

    def uploading_best(self) -> None:
        self._kill_while_publishing("best.pt is being sent", Plan("PUT", "/best.pt", "sent"))

    def between_best_and_last(self) -> None:
        self._wait_for_epoch()
        with (
            self._held_at_the_gate(Plan("PUT", "/best.pt", "answered")) as process,
            self._killed("between best.pt and last.pt", process),
        ):
            best = store(self.stack).head(self.training.job_id, "best")
            assert best is not None
            assert best.checkpoint is not None
            assert best.checkpoint.epoch > durable_epoch(self.stack, self.training.job_id)

    def keeping_the_generation_before(self) -> None:
        self._kill_while_publishing(
            "last.previous.pt is being copied", Plan("PUT", "/last.previous.pt", "received")
        )

    def uploading_last(self) -> None:
        self._kill_while_publishing("last.pt is being sent", Plan("PUT", "/last.pt", "sent"))

    def between_upload_and_record(self) -> None:
        self._wait_for_epoch()
        with (
            self._held_at_the_gate(Plan("PUT", "/last.pt", "answered")) as process,
            self._killed("between upload and record", process),
        ):
            assert durable_epoch(self.stack, self.training.job_id) > self.training.row["durable_epoch"]

    def with_its_supervisor(self) -> None:
        """Kill the supervisor too, as if the machine had died, so that Airflow is not told of the death."""
        process = self._wait_for_epoch()
        supervisor = process.parent()
        assert supervisor is not None
        self.training.kill("with its supervisor", supervisor, process)

    def after_the_last_epoch(self) -> None:
        process = self.training.process()
        self.training.reaches(EPOCHS - 1)
        self.training.kill("after the last epoch", process)

    def in_the_final_validation(self) -> None:
        process, attempt = self.training.process(), self.training.attempt
        stop_when(process.pid, lambda: "summary (fused)" in self.training.log(attempt))
        self.training.kill("in the final validation", process)

    def uploading_again(self) -> None:
        """Kill both upload tasks, which run at the same time and take less than a second."""
        processes = []
        for task_id in ("upload_best", "upload_last"):
            processes.append(self.training.process(task_id))
            processes[-1].suspend()
        for process in processes:
            self.training.kill("in upload_best, upload_last", process)

    def recording(self) -> None:
        self.training.kill("in record_checkpoints", self.training.process("record_checkpoints"))

    def _kill(self, stage: str, process: psutil.Process) -> None:
        with self._killed(stage, process):
            pass

    @contextmanager
    def _killed(self, stage: str, process: psutil.Process) -> Iterator[None]:
        """Kill the process, run the block, and sometimes wipe the disk, all before the next attempt."""
        with self.training.before_the_next_attempt():
            self.training.kill(stage, process)
            yield
            if self.may_lose_its_disk and random.random() < 0.3:
                self.training.wipe()

    def _wait_for_epoch(self) -> psutil.Process:
        """Wait until the current attempt has finished another epoch; return its process."""
        kills = self.training.kills
        self.training.reaches(max(kills[-1].epoch if kills else 0, 0) + 1)
        return self.training.process()

    def _kill_when(self, stage: str, condition: Callable[[], bool]) -> None:
        process = self._wait_for_epoch()
        stop_when(process.pid, condition)
        self._kill(stage, process)

    def _kill_while_publishing(self, stage: str, plan: Plan) -> None:
        self._wait_for_epoch()
        self._kill_at_the_gate(stage, plan)

    def _kill_at_the_gate(self, stage: str, plan: Plan) -> None:
        with self._held_at_the_gate(plan) as process:
            self._kill(stage, process)

    @contextmanager
    def _held_at_the_gate(self, plan: Plan) -> Iterator[psutil.Process]:
        """Hold the current attempt at the planned request until the end of the block."""
        assert self.stack.gate is not None
        self.stack.gate.shut(plan)
        try:
            process = self.training.process()
            self.stack.gate.wait()
            yield process
        finally:
            self.stack.gate.open()


def test_a_run_that_is_killed_at_every_stage_ends_with_the_same_weights(
    api: Airflow,
    gated_stack: GatedStack,
    job_conf: dict[str, Any],
    uninterrupted: str,
    report: Report,
    tmp_path: Path,
) -> None:
    training = Training(api, gated_stack, job_conf | {"job_id": "everywhere"})
    stages = Stages(training, gated_stack)
    everywhere = [
        stages.starting,
        stages.taking_over,
        stages.saving,
        stages.copying,
        stages.stripping,
        stages.uploading_best,
        stages.between_best_and_last,
        stages.keeping_the_generation_before,
        stages.uploading_last,
        stages.between_upload_and_record,
        *[stages.in_a_batch] * 4,
    ]
    stages.in_a_batch()
    stages.may_lose_its_disk = True
    for kill in random.sample(everywhere, len(everywhere)):
        kill()
    stages.may_lose_its_disk = False
    stages.with_its_supervisor()
    stages.after_the_last_epoch()
    stages.in_the_final_validation()
    stages.in_the_final_validation()
    of_train = len(training.kills)
    stages.uploading_again()
    stages.recording()
    row = training.ends(600)
    same = stored_weights(gated_stack, "everywhere", tmp_path) == uninterrupted
    kills = training.reported()
    report.add("the run's task", kills, same=same)
    assert same
    assert (row["status"], row["inexact_reason"]) == ("completed", None)
    assert len(kills) >= 20
    for cost in kills[:of_train]:
        assert cost.went_on_after >= 0, cost
        assert cost.lost <= 1, cost


def test_a_run_that_is_killed_on_a_busy_machine_ends_with_the_same_weights(
    api: Airflow,
    gated_stack: GatedStack,
    job_conf: dict[str, Any],
    uninterrupted: str,
    report: Report,
    tmp_path: Path,
) -> None:
    training = Training(api, gated_stack, job_conf | {"job_id": "busy"})
    stages = Stages(training, gated_stack)
    with busy_processes(2 * len(os.sched_getaffinity(0))):
        for _ in range(8):
            stages.in_a_batch()
        training.reaches(training.kills[-1].epoch + 1)
    row = training.ends(900)
    same = stored_weights(gated_stack, "busy", tmp_path) == uninterrupted
    report.add("the run's task, busy machine", training.reported(), same=same)
    assert same
    assert (row["status"], row["inexact_reason"]) == ("completed", None)


@contextmanager
def busy_processes(number: int) -> Iterator[None]:
    """Keep the processors busy with `number` processes in an endless loop."""
    counting = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in counting:
            process.kill()
            process.wait()


def test_a_suspended_attempt_that_resumes_after_its_successor_began_stops_and_overwrites_nothing(
    api: Airflow,
    gated_stack: GatedStack,
    job_conf: dict[str, Any],
    uninterrupted: str,
    report: Report,
    tmp_path: Path,
) -> None:
    training = Training(api, gated_stack, job_conf | {"job_id": "zombie"})
    training.reaches(2)
    old = training.process()
    supervisor = old.parent()
    assert supervisor is not None
    supervisor.suspend()
    old.suspend()
    until(lambda: training.attempt == 2, "another attempt, because the first one shows no sign of life")
    training.reaches(training.recorded + 1)
    before = durable_epoch(gated_stack, "zombie")
    old.resume()
    supervisor.resume()
    _, left = psutil.wait_procs([old], timeout=120)
    assert not left, "the old attempt is still running"
    assert durable_epoch(gated_stack, "zombie") >= before
    row = training.ends()
    assert (row["status"], row["attempt"], row["inexact_reason"]) == ("completed", 2, None)
    assert stored_weights(gated_stack, "zombie", tmp_path) == uninterrupted

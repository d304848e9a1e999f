"""The one step of the GPU benchmark that needs Airflow, with tiny data on a CPU.

tests/project/test_benchmarks_gpu.py runs the other steps.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.record import FILE_NAME, Record
from include.stack.airflow import REPOSITORY
from include.stack.local import Stack
from tests.support.airflow_client import Airflow

pytestmark = pytest.mark.timeout(600)


@pytest.mark.long
def test_the_scheduler_continues_a_signalled_task(api: Airflow, airflow_stack: Stack, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--minutes", "8"]
    command += ["--steps", "the task", "--stack", str(airflow_stack.state.path), "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = Record(tmp_path / FILE_NAME).latest().outcome("the task")
    found = {row[0]: row[1] for row in outcome.rows}
    assert (outcome.status, found["status of the job"], found["epochs that were trained twice"]) == (
        *("done", "completed"),
        0,
    )


def test_a_folder_without_a_stack_is_refused(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.gpu", "--stack", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"{tmp_path} is not the folder of a local stack; `make up` creates one in .stack" in done.stderr

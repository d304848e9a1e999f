"""The GPU benchmark, run completely on a CPU with tiny data, and the page that shows its results."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.gpu.__main__ import _select_steps
from benchmarks.gpu.exact import QUICK
from benchmarks.gpu.packages import pinned_requirements, write_lock
from benchmarks.gpu.page import NO_CLAIM, PAGE, render
from benchmarks.gpu.photographs import photographs
from benchmarks.gpu.record import FILE_NAME, Outcome, Record, Run
from benchmarks.gpu.steps import STEPS
from include.datasets.check import inspect_dataset
from include.datasets.layouts.boundary import DatasetRoots
from include.training.contract import MODEL_SUFFIX
from include.ultralytics_tasks import TASKS, Task
from tests.support.locks import read_lock

ROOT = Path(__file__).parents[2]

NEED_CUDA = {"memory", "several GPUs"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return the record of `make bench-gpu ARGS="--device cpu --quick"`."""
    out = tmp_path_factory.mktemp("gpu-results")
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", "cpu", "--quick", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return Record(out / FILE_NAME).latest()


@pytest.mark.long
def test_every_step_runs_on_a_cpu_or_names_its_missing_requirement(run: Run) -> None:
    ends = {step.name: (run.outcome(step.name).status, run.outcome(step.name).reason) for step in STEPS}
    skipped = {name: reason for name, (status, reason) in ends.items() if status == "skipped"}
    assert {name for name, reason in skipped.items() if reason == "it needs CUDA"} == NEED_CUDA
    assert {status for name, (status, _) in ends.items() if name not in skipped} == {"done"}, ends
    assert skipped.keys() - NEED_CUDA == {"the task"}


@pytest.mark.long
def test_a_row_has_a_cell_for_each_column(run: Run) -> None:
    for step in STEPS:
        rows = run.outcome(step.name).rows
        assert {len(row) for row in rows} <= {len(step.columns)}, step.name
        assert rows or step.name in NEED_CUDA | {"the task"}


@pytest.mark.long
def test_killed_training_runs_end_with_the_same_bits_as_uninterrupted_ones(run: Run) -> None:
    rows = [*run.outcome("exact, detect").rows, *run.outcome("exact, other tasks").rows]
    quick = [f"tiny{MODEL_SUFFIX[task]}" for task in ("detect", *QUICK)]
    assert {row[0]: (row[1], row[2]) for row in rows} == dict.fromkeys(quick, ("equal", "equal"))
    assert all(row[6] > 0 for row in rows)  # the resumed attempt began with pending gradients


@pytest.mark.parametrize("task", TASKS)
def test_the_photographs_of_every_task_can_be_trained_on(task: Task, tmp_path: Path) -> None:
    data = photographs(tmp_path, task, 4, 2, size=(96, 64))
    checked = inspect_dataset(str(data), task, tmp_path / "cache", None, DatasetRoots((tmp_path,))).reference
    assert (checked.train_images, checked.val_images) == (4, 2)


def test_the_page_makes_no_claim_without_results() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert render(page, Run()).splitlines()[0] == NO_CLAIM
    if page.startswith(NO_CLAIM):
        assert render(page, Run()) == page


def test_gpu_results_are_written_to_the_page_with_the_gpus_name() -> None:
    about = {"command": "python -m benchmarks.gpu", "date": "2027-01-02", "device": "0"}
    rows: list[Sequence[str]] = [("driver", "600.1"), ("device", "NVIDIA H100")]
    page = render(PAGE.read_text(encoding="utf-8"), Run(about, {"profile": Outcome(rows, "done")}))
    assert page.startswith("# On a GPU: NVIDIA H100, 2027-01-02, `python -m benchmarks.gpu`\n")
    assert "| driver | 600.1 |" in page
    with pytest.raises(ValueError, match=r"was run on a CPU; gpu\.md is about GPUs"):
        render(page, Run({**about, "device": "cpu"}))


def test_an_unknown_step_is_refused_with_a_list_of_the_steps() -> None:
    with pytest.raises(SystemExit, match=r"There is no step 'task'; the steps are 'profile', .*, 'the task'"):
        _select_steps(["save", "task"])
    assert [step.name for step in _select_steps(["the task", "save"])] == ["save", "the task"]


def test_an_interrupted_run_keeps_its_measurements(tmp_path: Path) -> None:
    record = Record(tmp_path / FILE_NAME)
    record.begin({"device": "0"})
    record.add_row("save", ["yolo11n", 25.0])
    assert record.latest().outcome("save") == Outcome([["yolo11n", 25.0]])


def test_the_wheels_are_those_pinned_in_the_lock_with_their_hashes(tmp_path: Path) -> None:
    write_lock(tmp_path / "requirements.txt")
    written = read_lock(tmp_path / "requirements.txt")
    assert [pin.requirement for pin in written] == pinned_requirements()
    assert set(written) <= set(read_lock(ROOT / "requirements.txt"))
    assert all(pin.hashes for pin in written)

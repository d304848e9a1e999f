"""Each training run has its own view of the data; a later run reuses the view and its caches."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.datasets.caching.fetch import materialize as materializing
from include.datasets.caching.view import lock_view
from include.datasets.reference import DatasetReference
from include.training.run import train
from tests.support.dataset_steps import check_here, materialize, roots_beside
from tests.support.killing import Attempt, Machine
from tests.support.tiny_datasets import build
from tests.support.tiny_models import architecture
from tests.support.tiny_trainings import QUICK, Epochs, request, weights_of
from tests.support.waiting import until

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task

ROOT = Path(__file__).parents[3]


def train_together(
    reference: DatasetReference, cache: Path, model: str, mine: Path, together: list[Path]
) -> int:
    """Train once all runs of `together` have their data; write the view's path and the weights' hash."""
    with materializing(reference, cache, None, roots_beside(cache)) as local:
        mine.mkdir()
        until(lambda: all(folder.exists() for folder in together), "the data of all runs", pause=0.01)
        training = request(
            reference.task,
            mine,
            model=model,
            data=local.data,
            save_dir=mine / "run",
            arguments=QUICK | {"cache": "disk"},
        )
        train(training, Epochs())
    found = [str(local.data), weights_of(mine / "run" / "weights" / "last.pt")]
    (mine / "found.json").write_text(json.dumps(found))
    return 0


@pytest.mark.parametrize("task", ["classify", "detect"])
def test_two_training_runs_that_start_together_do_not_disturb_each_other(task: Task, tmp_path: Path) -> None:
    data, cache = build(task, tmp_path / "data", train=16), tmp_path / "cache"
    reference = check_here(data, task, cache)
    model = architecture(tmp_path, task)
    together = [tmp_path / name for name in ("one", "another")]
    with ExitStack() as stack:
        runs = [
            stack.enter_context(
                Attempt(
                    train_together,
                    reference,
                    cache,
                    model,
                    mine,
                    together,
                    folder=tmp_path / f"{mine.name}-attempt",
                    machine=Machine(threads=1),
                )
            )
            for mine in together
        ]
        for run in runs:
            assert run.ends_within(120)
            assert run.status() == 0, run.log.read_text()
    (first, weights), (second, same_weights) = (
        json.loads((mine / "found.json").read_text()) for mine in together
    )
    assert first != second
    assert weights == same_weights
    view = materialize(reference, cache, None).data
    assert str(view) == min(first, second, key=len)
    assert list((view if view.is_dir() else view.parent).rglob("*.npy")), "the next run finds these caches"


def test_a_view_is_used_by_one_run_at_a_time_and_reused_later(tmp_path: Path) -> None:
    with lock_view(tmp_path, "view-detect") as first:
        with lock_view(tmp_path, "view-detect") as second:
            assert (first.name, second.name) == ("view-detect", "view-detect-2")
        first.mkdir()
        (first / "0.npy").touch()
    with lock_view(tmp_path, "view-detect") as again:
        assert again == first
        assert (again / "0.npy").exists()


@pytest.mark.parametrize("task", ["detect", "depth", "classify"])
def test_a_view_that_lost_links_is_linked_again(task: Task, tmp_path: Path) -> None:
    reference = check_here(build(task, tmp_path / "data"), task, tmp_path / "cache")
    data = materialize(reference, tmp_path / "cache", None).data
    view = data if data.is_dir() else data.parent
    complete = list_files(view)
    for lost in (0, len(complete) // 2, -1):
        (view / complete[lost]).unlink()
        (view / complete[1]).with_name("new.cache").touch()
        materialize(reference, tmp_path / "cache", None)
        assert list_files(view) == complete
    (view / "train").mkdir(exist_ok=True)
    for cache in ("train.cache", "train/0.npy"):
        (view / cache).touch()
    materialize(reference, tmp_path / "cache", None)
    assert (view / "train.cache").exists(), "an intact view is used again"


def list_files(view: Path) -> list[str]:
    return sorted(str(path.relative_to(view)) for path in view.rglob("*") if not path.is_dir())


INTERRUPTED = """
import os, sys, time
from pathlib import Path
from typing import TYPE_CHECKING
from include.datasets.caching.view import lock_view

with lock_view(Path(sys.argv[1]), "view-detect") as view:
    view.mkdir()
    (view / "0.npy").write_bytes(b"half an imag")
    (view / "train.cache").touch()
    if os.fork() == 0:
        time.sleep(1)
        (view / "1.npy").write_bytes(b"half another")
        os._exit(0)
    print("used", flush=True)
    time.sleep(60)
"""


def test_the_view_of_a_killed_run_is_reused_once_its_workers_have_ended(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout
    process.stdout.readline()
    process.kill()
    process.wait()
    with lock_view(tmp_path, "view-detect") as view:
        assert view.name == "view-detect"
        assert [path.name for path in view.iterdir()] == ["train.cache"]

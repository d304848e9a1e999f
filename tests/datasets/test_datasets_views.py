"""Each training run has its own view of the data; a later run reuses the view and its caches."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.datasets.caching.view_lock import lock_view
from tests.support.dataset_steps import check_dataset, materialize
from tests.support.tiny_datasets import build
from tests.support.tiny_models import architecture

ROOT = Path(__file__).parents[2]

TRAIN = """
import json, sys, time
from pathlib import Path
from include.datasets.layouts.boundary import DatasetRoots
from include.datasets.caching.fetch import materialize
from include.datasets.reference import DatasetReference
from include.training.run import train
from tests.support.tiny_trainings import QUICK, Epochs, request, weights_of

job = json.loads(sys.argv[1])
reference = DatasetReference.model_validate(job["reference"])
mine, cache = Path(job["mine"]), Path(job["cache"])
with materialize(reference, cache, None, DatasetRoots((cache.parent,), cache)) as local:
    mine.mkdir()
    while not all(Path(folder).exists() for folder in job["together"]):
        time.sleep(0.01)
    arguments = QUICK | {"cache": "disk"}
    asked = request(
        reference.task, mine, model=job["model"], data=local.data, save_dir=mine / "run", arguments=arguments
    )
    train(asked, Epochs())
print(json.dumps([str(local.data), weights_of(mine / "run" / "weights" / "last.pt")]))
"""


@pytest.mark.parametrize("task", ["classify", "detect"])
def test_two_training_runs_that_start_together_do_not_disturb_each_other(task: str, tmp_path: Path) -> None:
    data, cache = build(task, tmp_path / "data", train=16), tmp_path / "cache"
    reference = check_dataset(str(data), task, cache, None)
    together = [tmp_path / name for name in ("one", "another")]
    job: dict[str, Any] = {
        "reference": reference.model_dump(mode="json"),
        "cache": str(cache),
        "model": architecture(tmp_path, task),
        "together": [str(folder) for folder in together],
    }
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", TRAIN, json.dumps(job | {"mine": str(mine)})],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for mine in together
    ]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    (first, weights), (second, same_weights) = (json.loads(text.splitlines()[-1]) for text in printed)
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


INTERRUPTED = """
import os, sys, time
from pathlib import Path
from include.datasets.caching.view_lock import lock_view

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

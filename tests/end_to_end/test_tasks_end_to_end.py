"""Every task except detect on the real scheduler, from data in S3 to a row with both files.

test_end_to_end.py and most other tests train detect.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from include.checkpoints.inspection.inspect import inspect_file
from include.deployment.settings import DEFAULT_BUCKET
from include.training.architectures import find_default_metric
from include.training.loading import load_training_state
from include.ultralytics_tasks import TASKS
from tests.support.airflow_client import Airflow, download, job_row
from tests.support.dataset_steps import upload_files, upload_zip
from tests.support.tiny_datasets import build
from tests.support.tiny_models import architecture
from tests.support.untrained import best

if TYPE_CHECKING:
    from include.stack.local import Stack
    from include.ultralytics_tasks import Task

pytestmark = pytest.mark.timeout(600)

PIXELS: tuple[Task, ...] = ("semantic", "depth")
OTHERS: tuple[Task, ...] = tuple(task for task in TASKS if task not in {*PIXELS, "detect"})
SMALL = {"epochs": 2, "imgsz": 64, "batch": 4, "overrides": {"plots": False}}


def stored(stack: Stack, task: Task, folder: Path) -> dict[str, Any]:
    """Store data and weights in S3; return the parameters of a job. Depth data are arrays in a zip."""
    client = stack.s3.client()
    build(task, folder / "data")
    weights = best(task, folder / "best.pt", architecture=architecture(folder, task))
    client.upload_file(str(weights), DEFAULT_BUCKET, f"start/{task}.pt")
    dataset = f"s3://{DEFAULT_BUCKET}/tasks/{task}/"
    if task == "depth":
        for path in folder.glob("data/depth/*/*.png"):
            np.save(path.with_suffix(".npy"), np.asarray(Image.open(path), np.float32) / 1000)
            path.unlink()
        dataset = upload_zip(client, DEFAULT_BUCKET, folder / "data", "tasks/depth.zip")
    else:
        upload_files(client, DEFAULT_BUCKET, folder / "data", f"tasks/{task}/")
    model = f"s3://{DEFAULT_BUCKET}/start/{task}.pt"
    return {"job_id": f"tiny-{task}", "task": task, "dataset": dataset, "model": model, **SMALL}


@pytest.fixture(scope="module")
def conf(airflow_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    return {task: stored(airflow_stack, task, tmp_path_factory.mktemp(task)) for task in PIXELS}


def all_end_well(api: Airflow, stack: Stack, runs: Iterable[tuple[Task, str]], folder: Path) -> None:
    """Wait for the runs; each has both checkpoints, and the metric of its task."""
    for task, run_id in runs:
        api.succeeds("train_yolo", run_id)
        row = job_row(stack, f"tiny-{task}")
        assert (row["status"], row["epoch"], row["inexact_reason"]) == ("completed", 1, None)
        assert 0 <= row["metrics"][find_default_metric(task)] <= 1
        files = {
            kind: download(stack, row[f"{kind}_checkpoint_path"], folder / f"{task}-{kind}.pt")
            for kind in ("best", "last")
        }
        assert inspect_file(files["best"]).task == task
        assert load_training_state(files["last"], task)["epoch"] == 1


@pytest.mark.long
def test_the_tasks_that_predict_every_pixel_end_with_both_checkpoints(
    api: Airflow, airflow_stack: Stack, conf: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    runs = [(task, api.trigger("train_yolo", conf[task])) for task in PIXELS]
    all_end_well(api, airflow_stack, runs, tmp_path)


@pytest.mark.long
def test_the_other_tasks_end_with_both_checkpoints(
    api: Airflow, airflow_stack: Stack, tmp_path: Path
) -> None:
    runs = []
    for task in OTHERS:
        (folder := tmp_path / task).mkdir()
        runs.append((task, api.trigger("train_yolo", stored(airflow_stack, task, folder))))
    all_end_well(api, airflow_stack, runs, tmp_path)


def test_a_job_with_a_missing_map_fails_before_it_takes_a_gpu(
    api: Airflow, airflow_stack: Stack, conf: dict[str, dict[str, Any]]
) -> None:
    client = airflow_stack.s3.client()
    client.delete_object(Bucket=DEFAULT_BUCKET, Key="tasks/semantic/masks/train/3.png")
    run_id = api.trigger("train_yolo", conf["semantic"] | {"job_id": "no-mask"})
    assert api.wait("train_yolo", run_id) == "failed"
    assert "images/train/3.png: it has no masks/train/3.png" in job_row(airflow_stack, "no-mask")["error"]
    assert api.tasks("train_yolo", run_id)["train"] == "upstream_failed"

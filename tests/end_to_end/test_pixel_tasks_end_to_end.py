"""The tasks that predict every pixel, on the real scheduler, from data in S3 to a row with both files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from include.checkpoints.inspection.inspect import inspect_file
from include.deployment.settings import DEFAULT_BUCKET
from include.training.architectures import default_metric
from include.training.loading import load_training_state
from tests.support.airflow_client import Airflow, download, job_row
from tests.support.dataset_steps import upload_files, upload_zip
from tests.support.tiny_datasets import build
from tests.support.tiny_models import architecture
from tests.support.untrained import best

if TYPE_CHECKING:
    from include.stack.local import Stack
    from include.training.contract import Task

pytestmark = pytest.mark.timeout(600)

TASKS: tuple[Task, ...] = ("semantic", "depth")
SMALL = {"epochs": 2, "imgsz": 64, "batch": 4, "overrides": {"plots": False}}


@pytest.fixture(scope="module")
def conf(airflow_stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The parameters for each task: masks below a prefix, distances as arrays in a zip, weights in S3."""
    client = airflow_stack.s3.client()
    folders = {task: tmp_path_factory.mktemp(task) for task in TASKS}
    for task, folder in folders.items():
        build(task, folder / "data")
        weights = best(task, folder / "best.pt", architecture=architecture(folder, task))
        client.upload_file(str(weights), DEFAULT_BUCKET, f"start/{task}.pt")
    for path in folders["depth"].glob("data/depth/*/*.png"):
        np.save(path.with_suffix(".npy"), np.asarray(Image.open(path), np.float32) / 1000)
        path.unlink()
    upload_files(client, DEFAULT_BUCKET, folders["semantic"] / "data", "pixels/semantic/")
    data = {
        "semantic": f"s3://{DEFAULT_BUCKET}/pixels/semantic/",
        "depth": upload_zip(client, DEFAULT_BUCKET, folders["depth"] / "data", "pixels/depth.zip"),
    }
    return {
        task: {
            "job_id": f"tiny-{task}",
            "task": task,
            "dataset": data[task],
            "model": f"s3://{DEFAULT_BUCKET}/start/{task}.pt",
            **SMALL,
        }
        for task in TASKS
    }


def test_both_end_with_both_checkpoints_and_the_metric_of_their_task(
    api: Airflow, airflow_stack: Stack, conf: dict[str, dict[str, Any]], tmp_path: Path
) -> None:
    runs = {task: api.trigger("train_yolo", conf[task]) for task in TASKS}
    for task in TASKS:
        api.succeeds("train_yolo", runs[task])
        row = job_row(airflow_stack, f"tiny-{task}")
        assert (row["status"], row["epoch"], row["inexact_reason"]) == ("completed", 1, None)
        assert 0 <= row["metrics"][default_metric(task)] <= 1
        files = {
            kind: download(airflow_stack, row[f"{kind}_checkpoint_path"], tmp_path / f"{task}-{kind}.pt")
            for kind in ("best", "last")
        }
        assert inspect_file(files["best"]).task == task
        assert load_training_state(files["last"], task)["epoch"] == 1


def test_a_job_with_a_missing_map_fails_before_it_takes_a_gpu(
    api: Airflow, airflow_stack: Stack, conf: dict[str, dict[str, Any]]
) -> None:
    client = airflow_stack.s3.client()
    client.delete_object(Bucket=DEFAULT_BUCKET, Key="pixels/semantic/masks/train/3.png")
    run_id = api.trigger("train_yolo", conf["semantic"] | {"job_id": "no-mask"})
    assert api.wait("train_yolo", run_id) == "failed"
    assert "images/train/3.png: it has no masks/train/3.png" in job_row(airflow_stack, "no-mask")["error"]
    assert api.tasks("train_yolo", run_id)["train"] == "upstream_failed"

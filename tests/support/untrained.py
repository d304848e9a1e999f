"""Untrained models: files like those of a training run, made in less than a second."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from ultralytics.nn.tasks import (
    ClassificationModel,
    DepthModel,
    DetectionModel,
    OBBModel,
    PoseModel,
    SegmentationModel,
    SemanticSegmentationModel,
)

from include.checkpoints.checkpoint import Checkpoint
from include.checkpoints.store import CheckpointStore
from include.s3.bucket import Bucket
from tests.support.tiny_datasets import CLASSES
from tests.support.tiny_models import architecture as tiny
from tests.support.tiny_models import nano

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_MODELS = {
    "detect": DetectionModel,
    "segment": SegmentationModel,
    "semantic": SemanticSegmentationModel,
    "depth": DepthModel,
    "classify": ClassificationModel,
    "pose": PoseModel,
    "obb": OBBModel,
}


def best(task: str, path: Path, classes: tuple[str, ...] = CLASSES, architecture: str | None = None) -> Path:
    """Write a stripped best.pt of a model for `classes` with random weights; return its path."""
    torch.manual_seed(0)
    shape = {"data_kpt_shape": (4, 3)} if task == "pose" else {}
    yaml = architecture or f"{nano(task)}.yaml"
    model = _MODELS[task](yaml, nc=len(classes), verbose=False, **shape)
    model.names = dict(enumerate(classes))
    model.args = model.criterion = None
    state = {"model": model.half(), "train_args": {"task": task, "imgsz": 64}, "epoch": -1, "version": "8.4"}
    torch.save(state | dict.fromkeys(("ema", "optimizer", "best_fitness")), path)
    return path


def stored_start(client: S3Client, bucket: str, folder: Path) -> str:
    """Store a tiny detector's weights in S3, because jobs do not read local weights; return the URI."""
    weights = best("detect", folder / "tiny.pt", architecture=tiny(folder))
    client.upload_file(str(weights), bucket, "start/tiny.pt")
    return f"s3://{bucket}/start/tiny.pt"


def pretrained_tiny(client: S3Client, bucket: str, folder: Path) -> str:
    """Store a tiny detector's weights as pretrained weights; return their name for the parameter `model`."""
    weights = best("detect", folder / "tiny.pt", architecture=tiny(folder))
    client.upload_file(str(weights), bucket, "pretrained/tiny.pt")
    return "tiny.pt"


def stored_state(
    client: S3Client, bucket: str, folder: Path, job_id: str, run_id: str, classes: tuple[str, ...]
) -> Checkpoint:
    """Store a last.pt of a model for these classes as the job's state; return its description."""
    file = best("detect", folder / f"{job_id}.pt", classes=classes, architecture=tiny(folder))
    store = CheckpointStore(Bucket(client, bucket), run_id=run_id)
    stored = store.upload(Checkpoint.of_file(file, epoch=0), job_id, "last", "8.4").stored.checkpoint
    assert stored is not None
    return stored

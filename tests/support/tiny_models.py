"""Models that train an epoch in a tenth of a second; the detector learns the drawn shapes in 30 epochs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from include.training.architectures import find_default_architecture, is_architecture
from include.training.contract import MODEL_SUFFIX, require_task
from tests.support.tiny_datasets import build

_ARCHITECTURE = """
nc: 2
kpt_shape: [4, 3]
scales: {n: [0.33, 0.25, 64]}
backbone:
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, C3k2, [64, False, 0.25]]
  - [-1, 1, Conv, [64, 3, 2]]
  - [-1, 1, Conv, [64, 3, 2]]
head:
"""

_HEADS = {
    "detect": "[[3, 4], 1, Detect, [nc]]",
    "segment": "[[3, 4], 1, Segment, [nc, 32, 64]]",
    "semantic": "[[3, 4], 1, SemanticSegment, [nc]]",
    "depth": "[[3, 4], 1, Depth, [32]]",
    "classify": "[-1, 1, Classify, [nc]]",
    "pose": "[[3, 4], 1, Pose, [nc, kpt_shape]]",
    "obb": "[[3, 4], 1, OBB, [nc, 1]]",
}

IMAGES, BATCHES = 18, 5
ARGUMENTS: dict[str, Any] = {
    "imgsz": 64,
    "batch": 4,  # the last batch of an epoch has two images
    "nbs": 12,  # three batches per optimizer step, so gradients are pending at the end of most epochs
    "optimizer": "MuSGD",
    "lr0": 0.01,
    "warmup_epochs": 1,
    "close_mosaic": 4,
    "plots": False,
}
"""All other arguments are Ultralytics' defaults, with mosaic and all other augmentation."""


def nano(task: str) -> str:
    """Return the task's smallest architecture: YOLO11's, which has one head, if it exists, or the default."""
    name = f"yolo11n{MODEL_SUFFIX[require_task(task)]}"
    return name if is_architecture(name) else find_default_architecture(require_task(task))


def architecture(folder: Path, task: str = "detect", *, end2end: bool = False) -> str:
    """Write the YAML of a model for the task, with YOLO26's two heads if asked for; return its path."""
    path = folder / f"tiny{MODEL_SUFFIX[require_task(task)]}.yaml"
    heads = "end2end: True\nreg_max: 1" if end2end else ""
    path.write_text(f"{heads}{_ARCHITECTURE}  - {_HEADS[task]}\n", encoding="utf-8")
    return str(path)


def command(folder: Path, epochs: int, *options: str) -> list[str]:
    """Return the command line of a training run whose model, data and results are in the folder."""
    data = folder / "data" / "data.yaml"
    if not data.exists():
        build("detect", data.parent, train=IMAGES, val=6)
    arguments = [f"{name}={json.dumps(value)}" for name, value in ARGUMENTS.items()]
    what = ["--model", architecture(folder), "--data", str(data), "--epochs", str(epochs)]
    return [*what, "--device", "cpu", "--save-dir", str(folder / "run"), *options, "--set", *arguments]

"""Training runs of the two tasks that predict a value for each pixel: semantic and depth."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from include.training.loading import load_checkpoint
from include.training.run import build_trainer, train
from include.training.trainers import CALIBRATION, calibrate_depth
from tests.support.tiny_datasets import CLASSES, build
from tests.support.tiny_models import IMAGES
from tests.support.tiny_trainings import STANDSTILL, Epochs, request
from tests.training.test_exact_batches import interrupted, last_of, make_request, uninterrupted


def test_outlines_are_trained_on_as_pixel_classes_with_a_background_class(tmp_path: Path) -> None:
    build_like_segment = request("segment", tmp_path)
    training_request = request("semantic", tmp_path, data=build_like_segment.data)
    result = train(training_request, Epochs())
    state = load_checkpoint(training_request.save_dir / "weights" / "best.pt")
    assert list(state["model"].names.values()) == [*CLASSES, "background"]
    assert (result.metrics["metrics/pixel_acc"] or 0) > 0


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        (
            "semantic",
            {"mixup": 0.5, "cutmix": 0.5, "copy_paste": 0.5, "mosaic": 0.5, "cache": "disk", "cls_pw": 0.5}
            | {"multi_scale": 0.5, "degrees": 20, "classes": [1]},
        ),
        pytest.param(
            "depth",
            {"cache": "ram", "multi_scale": 0.5, "degrees": 20, "perspective": 0.001, "fliplr": 0.5},
            marks=pytest.mark.long,
        ),
    ],
)
def test_a_resumed_run_ends_with_the_same_weights_for_any_arguments(
    task: str, arguments: dict[str, Any], tmp_path: Path
) -> None:
    wanted = make_request(task, tmp_path, **arguments)
    whole, _ = uninterrupted(wanted, workers=1)
    interrupted(wanted, (-1, 1), (1, 0), (2, 2), workers=(0, 2, 1, 0))
    assert last_of(wanted) == whole


@pytest.mark.long
def test_a_resumed_run_on_outlines_drawn_as_masks_ends_with_the_same_weights(tmp_path: Path) -> None:
    data = build("segment", tmp_path / "outlines", train=IMAGES)
    wanted = replace(make_request("semantic", tmp_path, copy_paste=0.5), data=data)
    whole, _ = uninterrupted(wanted, workers=2)
    interrupted(wanted, (0, 3), (2, 1), workers=(0, 1, 2))
    assert last_of(wanted) == whole


def depth_scale_of(best: Path) -> tuple[float, float]:
    head = load_checkpoint(best)["model"].model[-1]
    return float(head.cal_a), float(head.cal_b)


def test_best_pt_of_a_depth_model_gives_metres_and_last_pt_is_unchanged(tmp_path: Path) -> None:
    """All objects are ten times as far away as the untrained head assumes, and the head learns nothing."""
    training_request = request("depth", tmp_path, arguments=STANDSTILL)
    for path in training_request.data.parent.glob("depth/*/*.png"):
        known = np.asarray(Image.open(path)) > 0
        Image.fromarray(known.astype(np.uint16) * 12000).save(path)
    train(training_request, Epochs())
    weights = training_request.save_dir / "weights"
    scale, offset = depth_scale_of(weights / "best.pt")
    assert scale == 1.0
    assert offset == pytest.approx(math.log(10), abs=0.5)
    assert load_checkpoint(weights / "best.pt")[CALIBRATION]["candidate"] == "scale-only"
    last = load_checkpoint(weights / "last.pt")
    assert CALIBRATION not in last
    assert float(last["ema"].model[-1].cal_b) == 0.0


def test_a_calibrated_best_pt_stays_unchanged_when_the_attempt_is_repeated(tmp_path: Path) -> None:
    training_request = request("depth", tmp_path)
    train(training_request, Epochs())
    best = training_request.save_dir / "weights" / "best.pt"
    shutil.copy(best, copy := tmp_path / "copy.pt")
    before = copy.read_bytes()
    with build_trainer(training_request, Epochs()) as trainer:
        trainer._setup_train()
        calibrate_depth(copy, trainer.test_loader, torch.device("cpu"), None, None)
        for loader in (trainer.train_loader, trainer.test_loader):
            loader.close()
    assert copy.read_bytes() == before

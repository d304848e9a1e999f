"""Trainings that take a second: nano models from scratch on tiny data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from include.training.contract import MODEL_SUFFIX, EpochReport, TrainingRequest
from tests.tiny_datasets import build

QUICK: dict[str, object] = {"imgsz": 64, "batch": 4, "plots": False, "workers": 0}
STANDSTILL: dict[str, object] = {**QUICK, "optimizer": "SGD", "lr0": 1e-9, "warmup_epochs": 0}
"""Learns nothing, so that no epoch is better than the one before."""


class Epochs:
    """Keeps what is reported (an EpochReporter)."""

    def __init__(self) -> None:
        self.reports: list[EpochReport] = []

    def report(self, epoch: EpochReport) -> None:
        self.reports.append(epoch)


class GivesUp:
    """Ends the training after some epochs with an exception of its own (an EpochReporter)."""

    class Enough(Exception):
        pass

    def __init__(self, after: int) -> None:
        self.after = after

    def report(self, epoch: EpochReport) -> None:
        if epoch.epoch + 1 >= self.after:
            raise self.Enough(f"{self.after} epochs are enough")


def request(task: str, folder: Path, /, **given: Any) -> TrainingRequest:
    """A request for two epochs of `task` below `folder`, but for what is given."""
    data = folder / f"{task}-data"
    if not data.exists():
        build(task, data)
    settings: dict[str, Any] = {
        "task": task,
        "model": f"yolo11n{MODEL_SUFFIX[task]}",
        "data": data if task == "classify" else data / "data.yaml",
        "save_dir": folder / "runs" / "train",
        "epochs": 2,
        "device": "cpu",
        "arguments": QUICK,
    }
    return TrainingRequest(**(settings | given))

"""Training runs of a second: tiny models from scratch on tiny datasets."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from include.checkpoints.checkpoint import Position
from include.checkpoints.keys import EXACT
from include.training.contract import (
    EpochReport,
    EpochReporter,
    SavedState,
    TrainingProgress,
    TrainingRequest,
)
from include.training.loading import load_checkpoint
from include.training.run import build_trainer
from tests.support.tiny_datasets import build
from tests.support.tiny_models import architecture

QUICK: dict[str, object] = {"imgsz": 64, "batch": 4, "plots": False, "workers": 0}
STANDSTILL: dict[str, object] = {**QUICK, "optimizer": "SGD", "lr0": 1e-9, "warmup_epochs": 0}
"""With these arguments a model learns nothing, so that no epoch is better than the previous one."""


class Epochs:
    """An EpochReporter that records the reports."""

    def __init__(self) -> None:
        self.reports: list[EpochReport] = []

    def report(self, epoch: EpochReport) -> bool:
        self.reports.append(epoch)
        return True


class GivesUp:
    """An EpochReporter that ends the training run after some epochs by raising Enough."""

    class Enough(Exception):
        pass

    def __init__(self, after: int) -> None:
        self.after = after

    def report(self, epoch: EpochReport) -> bool:
        if epoch.epoch + 1 >= self.after:
            raise self.Enough(f"{self.after} epochs are enough")
        return True


class EndsAt(Epochs):
    """An Epoch- and StateReporter that requests a state at each position; the last state ends the run.

    A position is the last finished epoch and the number of batches after it. A request is skipped while
    another state is being written. These epochs are as short as a write, so `flush` waits for the write.
    """

    class Enough(Exception):
        pass

    def __init__(self, *positions: Position) -> None:
        super().__init__()
        self.positions = positions
        self.flush: Callable[[], None] = lambda: None
        self.saved_states: list[SavedState] = []

    def report_progress(self, progress: TrainingProgress) -> bool:
        wanted = (progress.epoch, progress.batch) in self.positions
        if wanted:
            self.flush()
        return wanted

    def report_state(self, state: SavedState) -> None:
        self.saved_states.append(state)
        if self.positions[-1:] == ((state.epoch, state.batch),):
            raise self.Enough


def request(
    task: str, folder: Path, /, images: int = 8, model: str | None = None, **given: Any
) -> TrainingRequest:
    """Return a request to train a tiny model for two epochs below `folder`; `given` replaces fields."""
    data = folder / f"{task}-data"
    if not data.exists():
        build(task, data, train=images)
    settings: dict[str, Any] = {
        "task": task,
        "model": model or architecture(folder, task),
        "data": data if task == "classify" else data / "data.yaml",
        "save_dir": folder / "runs" / "train",
        "epochs": 2,
        "device": "cpu",
        "arguments": QUICK,
    }
    return TrainingRequest(**(settings | given))


def recovery(training_request: TrainingRequest) -> TrainingRequest:
    """Return the request of the next attempt on the same machine."""
    weights = training_request.save_dir / "weights"
    return replace(
        training_request, resume_from=weights / "last.pt", best_from=weights / "best.pt", recover=True
    )


def train_with(workers: int, training_request: TrainingRequest, reporter: EpochReporter) -> None:
    """Train with loader workers; on a CPU, Ultralytics uses none unless they are set after its setup."""
    with build_trainer(training_request, reporter) as trainer:
        trainer.args.workers = workers
        trainer.train()


def weights_of(last: Path) -> str:
    """Return the SHA-256 of the names and bits of the live weights and of their moving average."""
    state, digest = load_checkpoint(last)[EXACT], hashlib.sha256()
    for part in ("live", "ema"):
        for name, tensor in state[part].items():
            digest.update(f"{part} {name} {tensor.dtype}".encode())
            digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def digests(save_dir: Path) -> dict[str, str]:
    """Return digests of a run's final weights with their average, its best model and its untimed history."""
    best = load_checkpoint(save_dir / "weights" / "best.pt")
    digest = hashlib.sha256(str(best["best_epoch"]).encode())
    for name, tensor in best["model"].state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    with (save_dir / "results.csv").open(encoding="utf-8") as file:
        rows = [{name: text for name, text in row.items() if name != "time"} for row in csv.DictReader(file)]
    return {
        "last": weights_of(save_dir / "weights" / "last.pt"),
        "best": digest.hexdigest(),
        "history": json.dumps(rows),
    }

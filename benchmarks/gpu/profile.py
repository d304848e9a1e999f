"""Describe the machine on which everything else is measured."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.gpu.child import run_in_child
from benchmarks.gpu.photographs import few_photographs
from benchmarks.gpu.place import processors
from benchmarks.gpu.step import Step
from benchmarks.gpu.training_run import TrainingRun, nondeterministic_operators
from benchmarks.gpu.watching import driver_version

if TYPE_CHECKING:
    from benchmarks.gpu.place import Place
    from include.training.resumable import ResumableMixin


def _measure(place: Place) -> Iterator[Sequence[Any]]:
    yield "driver", driver_version() or "none"
    yield "Python", sys.version.split()[0]
    yield "processors", f"{processors()} of {os.cpu_count()}"
    yield "memory", f"{psutil.virtual_memory().total / 1e9:.0f} GB"
    data = few_photographs(place)
    training = TrainingRun(
        "detect", place.architecture("detect"), data, place.folder / "profile", 1, place.device,
        arguments={"imgsz": 64, "batch": 4},
    )  # fmt: skip
    with run_in_child(_train_and_look, training, log=place.folder / "profile.log") as child:
        yield from child.result()


def _train_and_look(training: TrainingRun) -> list[Sequence[Any]]:
    """Train one epoch, and read the settings during it, because Ultralytics resets them afterwards."""
    found: list[Sequence[Any]] = []
    with training.trainer() as trainer, nondeterministic_operators() as operators:
        trainer.add_callback("on_train_epoch_end", lambda trainer: found.extend(_settings(trainer)))
        trainer.train()
    return [*found, ("operators that warn", ", ".join(sorted(operators)) or "none")]


def _settings(trainer: ResumableMixin) -> Iterator[Sequence[Any]]:
    import torch

    yield from trainer.profile.items()
    if trainer.device.type == "cuda":
        properties = torch.cuda.get_device_properties(trainer.device)
        yield "GPU memory", f"{properties.total_memory / 1e9:.0f} GB"
    yield "AMP", trainer.amp
    yield "deterministic algorithms", torch.are_deterministic_algorithms_enabled()
    yield "cuDNN deterministic", torch.backends.cudnn.deterministic
    yield "cuDNN benchmark", torch.backends.cudnn.benchmark
    yield "TF32 in convolutions", torch.backends.cudnn.allow_tf32
    yield "CUBLAS_WORKSPACE_CONFIG", os.environ.get("CUBLAS_WORKSPACE_CONFIG")


STEP = Step(
    "profile",
    "Card, driver, processors, versions, and a training run's determinism settings. *Operators that warn* "
    "have no deterministic implementation in PyTorch. They were collected during one epoch of detect with "
    "`deterministic=True`.",
    ("what", "value"),
    _measure,
    seconds=60,
)

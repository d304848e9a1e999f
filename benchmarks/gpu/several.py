"""Train one model on two GPUs."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.child import kill_own_group, run_in_child
from benchmarks.gpu.exact import compare
from benchmarks.gpu.photographs import MANY, photographs
from benchmarks.gpu.step import Skipped, Step
from benchmarks.gpu.training_run import TrainingRun, read_final_state
from benchmarks.gpu.watching import count_gpus

if TYPE_CHECKING:
    from benchmarks.gpu.place import Place
    from benchmarks.gpu.training_run import FinalState
    from include.training.contract import EpochReport

_BOTH = "0,1"


class _Seconds:
    """Collects the duration of each epoch (an EpochReporter)."""

    def __init__(self) -> None:
        self.epochs: list[float] = []

    def report(self, epoch: EpochReport) -> bool:
        """Record the duration, and continue."""
        self.epochs.append(epoch.seconds)
        return True


class _Kills:
    """Kills this process in the middle of the second epoch (an EpochReporter).

    The kill comes half an epoch's duration after the end of the first epoch. The training processes are
    killed with this process.
    """

    def report(self, epoch: EpochReport) -> bool:
        """Continue until the kill."""
        if epoch.epoch == 0:
            threading.Timer(epoch.seconds / 2, kill_own_group).start()
        return True


def _measure(place: Place) -> Iterator[Sequence[Any]]:
    if (gpus := count_gpus()) < 2:
        raise Skipped(f"it needs two GPUs, but this machine has {gpus}")
    row = compare(place, "detect", "yolo11n", _BOTH, _train_to_the_end, _train_until_killed)
    yield "two whole runs", row[1]
    yield "killed and resumed", row[2]
    yield "outside the guarantee", row[7]
    data = photographs(place.folder, "detect", MANY, 100)
    for device, batch in (("0", 64), (_BOTH, 128)):
        training = TrainingRun(
            "detect", "yolo11n", data, place.folder / f"several-{device}", 5, device, 8,
            {"imgsz": 640, "batch": batch},
        )  # fmt: skip
        with run_in_child(_epoch_seconds, training, log=place.folder / f"several-{device}.log") as child:
            yield f"images/s on device={device}", MANY / statistics.median(child.result()[1:])


def _train_to_the_end(training: TrainingRun) -> FinalState:
    from include.training.run import train

    train(_with_workers(training).request(), _Seconds())
    return read_final_state(training)


def _train_until_killed(training: TrainingRun, *_: int) -> None:
    from include.training.run import train

    train(_with_workers(training).request(), _Kills())
    raise AssertionError("The training run ended before it was killed")


def _epoch_seconds(training: TrainingRun) -> list[float]:
    from include.training.run import train

    seconds = _Seconds()
    train(_with_workers(training).request(), seconds)
    return seconds.epochs


def _with_workers(training: TrainingRun) -> TrainingRun:
    return replace(training, arguments={**training.arguments, "workers": training.workers})


STEP = Step(
    "several GPUs",
    "Two GPUs joined by NCCL: the same check as in `exact, detect`, and the images/s of our epochs on one "
    "GPU (batch=64) and on two (batch=128).",
    ("what", "found"),
    _measure,
    seconds=120,
    needs_gpu=True,
)

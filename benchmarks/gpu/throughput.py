"""Measure the images per second of plain Ultralytics and of ours, which take turns epoch by epoch."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.figures import MedianInterval, ratios
from benchmarks.gpu.photographs import FEW, MANY
from benchmarks.gpu.step import Step, kill_with_children
from benchmarks.gpu.training_run import TrainingRun
from benchmarks.gpu.watching import Utilisation
from benchmarks.sides import Side

if TYPE_CHECKING:
    from benchmarks.costs import Cost
    from benchmarks.gpu.place import Place
    from benchmarks.sides import Turns

MODELS = ("yolo11n", "yolo26n")
_EPOCHS = 1000
"""More epochs than can be trained in the available time."""


class PausedSide(Side):
    """A side whose processes are stopped between its turns.

    Otherwise its loader workers would fill their queues between turns.
    """

    def turn(self) -> Cost:
        """Run the next part and return its cost."""
        if self._started:
            os.killpg(self.pid, signal.SIGCONT)
        cost = super().turn()
        os.killpg(self.pid, signal.SIGSTOP)
        return cost

    def leave(self) -> None:
        """Kill its process and all descendants."""
        kill_with_children(self.pid)
        super().leave()


@dataclass
class Waiting:
    """How long a training run waits for data: from the end of one batch to the start of the next.

    To print the losses, Ultralytics waits for the GPU after each batch; the GPU is then idle until the next.
    """

    seconds: float = 0.0
    batches: float = 0.0
    _moment: float | None = None

    def begin_epoch(self, _: Any) -> None:
        """Start counting now: the time before was not spent waiting for data."""
        self._moment = time.perf_counter()

    def begin_batch(self, _: Any) -> None:
        """Record that the data have arrived."""
        now = time.perf_counter()
        self.seconds += now - (self._moment or now)
        self._moment = now

    def end_batch(self, _: Any) -> None:
        """Record that the GPU has finished the batch."""
        now = time.perf_counter()
        self.batches += now - (self._moment or now)
        self._moment = now

    def add_to(self, callbacks: Any) -> None:
        """Register with the callbacks of a model or trainer."""
        callbacks.add_callback("on_train_epoch_start", self.begin_epoch)
        callbacks.add_callback("on_train_batch_start", self.begin_batch)
        callbacks.add_callback("on_train_batch_end", self.end_batch)

    def write(self, path: Path) -> None:
        """Write the share of time spent waiting so far to a file that the measuring process reads."""
        path.write_text(f"{self.seconds / max(self.seconds + self.batches, 1e-9)}")


def _train(turns: Turns, training: TrainingRun, share: Path, plain: bool) -> None:
    def prepare(callbacks: Any) -> None:
        waiting.add_to(callbacks)
        callbacks.add_callback("on_fit_epoch_end", end_epoch)

    def end_epoch(_: Any) -> None:
        waiting.write(share)
        turns.finish()

    os.setsid()
    waiting = Waiting()
    training.train(plain, prepare)


def _measure(place: Place) -> Iterator[Sequence[Any]]:
    models = MODELS[:1] if place.quick else MODELS
    for number, model in enumerate(models):
        seconds = place.seconds_left / (len(models) - number) - 5
        yield _compare(place, model, time.monotonic() + seconds)


def _compare(place: Place, model: str, ends: float) -> Sequence[Any]:
    folder = place.own(f"throughput-{model}")
    training = TrainingRun.of_many(place, folder / "run", _EPOCHS, model)
    images = FEW if place.quick else MANY
    costs: dict[str, list[float]] = {"plain": [], "ours": []}
    with ExitStack() as stack:
        utilisation = stack.enter_context(Utilisation(int(place.device) if place.on_gpu else None))
        sides = {}
        for name in costs:
            (folder / name).mkdir()
            own, share = replace(training, folder=folder / name / "run"), folder / f"{name}.share"
            log = folder / f"{name}.log"
            sides[name] = PausedSide(_train, own, share, name == "plain", log=log, method="fork")
            stack.callback(sides[name].leave)
        for turn in range(3 if place.quick else _EPOCHS):
            round_start = time.monotonic()
            for name in ("plain", "ours") if turn % 2 else ("ours", "plain"):
                utilisation.attribute_to(name if turn else None)
                costs[name].append(sides[name].turn().seconds)
            now = time.monotonic()
            if turn > 1 and now + (now - round_start) > ends:
                break
    plain, ours = (costs[name][1:] for name in ("plain", "ours"))
    shares = [float((folder / f"{name}.share").read_text()) for name in ("plain", "ours")]
    return [
        Path(training.model).stem,
        len(ours),
        *(images / statistics.median(seconds) for seconds in (plain, ours)),
        f"{MedianInterval.of(ratios(plain, ours)):.3f}",
        *(utilisation.mean(name) for name in ("plain", "ours")),
        *(100 * share for share in shares),
    ]


STEP = Step(
    "throughput",
    "Training images per second over a whole epoch, including the validation of 100 photographs and saving: "
    "2,000 photographs, imgsz=640, batch=64, AMP, 8 workers. Plain `yolo train` and ours take turns epoch by "
    "epoch, and each goes first in every other round. The one that waits is paused, together with its loader "
    "workers. The ratio is the median over pairs of consecutive epochs, one from each side, with its 95 % "
    "CI. *GPU busy* is the utilisation that NVML reports, sampled ten times a second, validation and saving "
    "included. *Waits for data* is the share of time between the end of one batch and the start of the next.",
    (
        "model", "epochs", "plain, images/s", "ours, images/s", "ours / plain", "GPU busy, plain, %",
        "GPU busy, ours, %", "waits for data, plain, %", "waits for data, ours, %",
    ),
    _measure,
    seconds=160,
)  # fmt: skip

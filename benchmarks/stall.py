"""Measure how long saving a state pauses the training thread, and how long writing it takes afterwards.

python -m benchmarks.stall [--quick]
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.costs import Cost
from benchmarks.material import make_digits
from benchmarks.place import local_services, main
from benchmarks.sides import wait_until_durable
from benchmarks.table import Table, progress

if TYPE_CHECKING:
    from benchmarks.place import Services
    from include.checkpoints.publisher import BackgroundPublisher
    from include.training.contract import EpochReport, SavedState, TrainingProgress

EPOCHS = 2
_SECONDS_BETWEEN = 60.0
"""Seconds between two uploads: the default of publish_seconds."""


def measure(folder: Path, quick: bool) -> Table:
    """Train briefly to get a state, then save it alternately with plain Ultralytics and with ours."""
    rounds = 3 if quick else 15
    table = Table(
        "How long saving a state pauses training",
        "The whole training state, optimizer and pending gradients included, is saved alternately by plain "
        f"Ultralytics and by ours while no batch is being trained; medians of {rounds}. *Pause* is how long "
        "`save_model` holds up the training thread; ours only copies the state meanwhile. *Share* is our "
        "pause as a share of 60 seconds, the default `publish_seconds`. *Written* is how long another "
        "thread then takes to write and sync the file and to hand it over for upload.",
        ("model", "plain last.pt", "our last.pt", "pause, plain", "pause, ours", "share", "written"),
    )
    shares: dict[str, float] = {}
    data, _ = make_digits(folder / "digits")
    with local_services(folder) as services:
        for model in ("yolo11n",) if quick else ("yolo11n", "yolov6n", "yolo11s", "yolo11m"):
            progress(f"{model} …")
            cells, shares[model] = _stall(model, data, folder / model, services, rounds)
            table.add(model, *cells)
    table.result = str(table.compare("at most half the pause of plain", shares, 0.5))
    return table


def _stall(model: str, data: Path, folder: Path, services: Services, rounds: int) -> tuple[list[str], float]:
    """Return the cells of a model, and our pause as a share of plain Ultralytics'."""
    from ultralytics import __version__

    from include.checkpoints.publisher import BackgroundPublisher
    from include.training.contract import TrainingRequest
    from include.training.run import build_trainer

    arguments = {"imgsz": 64, "plots": False, "nbs": 10**6, "optimizer": "AdamW"}
    request = TrainingRequest("detect", model, data, folder, EPOCHS, arguments=arguments)
    store = services.store(model)
    with BackgroundPublisher(store, model, __version__, lambda *_: None) as publisher:
        saves = Saves(publisher, rounds)
        with build_trainer(request, saves, saves) as trainer:
            saves.trainer = trainer
            trainer.train()
    plain, ours = (statistics.median(cost.seconds for cost in each) for each in (saves.plain, saves.ours))
    return [
        *(f"{size / 1e6:.0f} MB" for size in saves.sizes),
        *(f"{seconds * 1000:.0f} ms" for seconds in (plain, ours)),
        f"{ours / _SECONDS_BETWEEN:.2%}",
        f"{statistics.median(saves.written) * 1000:.0f} ms",
    ], ours / plain


class Saves:
    """Measures how `trainer` saves at the end of the last epoch (an EpochReporter and StateReporter)."""

    trainer: Any

    def __init__(self, publisher: BackgroundPublisher, rounds: int) -> None:
        self._publisher, self._rounds = publisher, rounds
        self._round = -1
        self.plain: list[Cost] = []
        self.ours: list[Cost] = []
        self.written: list[float] = []
        self.sizes = (0, 0)

    def report_progress(self, progress: TrainingProgress) -> bool:
        """Request no state within an epoch."""
        return False

    def report_state(self, state: SavedState) -> None:
        """Hand the state over to the publisher if the measurement has begun."""
        from include.checkpoints.snapshot import Snapshot
        from include.training.saving import link_or_copy

        if self._round >= 0:
            copy = self.trainer.last.with_name(f"last-{self._round}.pt")
            link_or_copy(self.trainer.last, copy)
            self._publisher.publish(Snapshot(self._round, copy))

    def report(self, epoch: EpochReport) -> bool:
        """After the last epoch, measure saves in which neither plain nor ours writes best.pt."""
        if epoch.epoch + 1 < epoch.epochs:
            return True
        self.trainer.state_writer.flush()
        best_fitness, self.trainer.best_fitness = self.trainer.best_fitness, None
        last, plain = self.trainer.last, self.trainer.last.with_name("plain.pt")
        for round_ in range(self._rounds + 1):
            self._round = round_
            self._save(last, plain)
        self.trainer.last, self.trainer.best_fitness = last, best_fitness
        self.sizes = (plain.stat().st_size, last.stat().st_size)
        for measured in (self.plain, self.ours, self.written):
            del measured[0]  # the first round creates the files and runs cold code
        return True

    def _save(self, last: Path, plain: Path) -> None:
        from ultralytics.engine.trainer import BaseTrainer

        self.trainer.last = plain
        self.plain.append(Cost.of(lambda: BaseTrainer.save_model(self.trainer)))
        self.trainer.last = last
        self.ours.append(Cost.of(self.trainer.save_model))
        start = time.perf_counter()
        self.trainer.state_writer.flush()
        self.written.append(time.perf_counter() - start)
        wait_until_durable(self._publisher, self._round)


if __name__ == "__main__":
    main(measure)

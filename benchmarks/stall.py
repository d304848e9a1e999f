"""What the end of an epoch costs the training thread beyond Ultralytics' own save.

python -m benchmarks.stall [--quick]
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.material import digits
from benchmarks.place import local_services, main
from benchmarks.sides import Cost, wait_until_durable
from benchmarks.table import Table, progress

if TYPE_CHECKING:
    from benchmarks.place import Services
    from include.checkpoints.publisher import BackgroundPublisher
    from include.training.contract import EpochReport

EPOCHS = 2


def measure(folder: Path, quick: bool) -> Table:
    """Train shortly, so that there is a state, and then save it in both ways by turns."""
    rounds = 3 if quick else 15
    table = Table(
        "Added stall per epoch",
        "The whole state of a model in training, optimizer and pending gradient included, saved by turns in "
        "both ways while the training stands still: Ultralytics' `save_model`, ours, and then the private "
        f"copy and its hand-over to the publisher. Medians of {rounds}. Added is our save and the hand-over "
        "less the plain save; its processor time is what other programs disturb less. The epoch is one of "
        "400 scenes of 64 px: hardly anybody trains shorter ones.",
        (
            "model", "plain last.pt", "our last.pt", "plain save", "our save", "hand-over", "added",
            "added, processor", "of an epoch of",
        ),
    )  # fmt: skip
    data, _ = digits(folder / "digits")
    with local_services(folder) as services:
        for model in ("yolo11n",) if quick else ("yolo11n", "yolov6n", "yolo11s", "yolo11m"):
            progress(f"{model} …")
            table.add(model, *_stall(model, data, folder / model, services, rounds))
    return table


def _stall(model: str, data: Path, folder: Path, services: Services, rounds: int) -> list[str]:
    from ultralytics import __version__

    from include.checkpoints.publisher import BackgroundPublisher
    from include.training.contract import TrainingRequest
    from include.training.run import prepared
    from include.training.saving import strip

    arguments = {"imgsz": 64, "plots": False, "nbs": 10**6, "optimizer": "AdamW"}
    request = TrainingRequest("detect", model, data, folder, EPOCHS, arguments=arguments)
    with BackgroundPublisher(services.store(model), model, __version__, strip, lambda _: None) as publisher:
        saves = Saves(publisher, rounds)
        with prepared(request, saves) as trainer:
            saves.trainer = trainer
            trainer.train()
    costs = (saves.plain, saves.ours, saves.hand_over)
    theirs, own, handing = (statistics.median(cost.seconds for cost in each) for each in costs)
    work = [statistics.median(cost.processor_seconds for cost in each) for each in costs]
    added = own + handing - theirs
    return [
        *(f"{size / 1e6:.0f} MB" for size in saves.sizes),
        *(f"{seconds * 1000:.0f} ms" for seconds in (theirs, own)),
        f"{handing * 1000:.1f} ms",
        f"{added * 1000:+.0f} ms, {added / saves.epoch_seconds:+.2%}",
        f"{(work[1] + work[2] - work[0]) * 1000:+.0f} ms",
        f"{saves.epoch_seconds:.1f} s",
    ]


class Saves:
    """An EpochReporter that measures at the end of the last epoch, with the trainer that it is given."""

    trainer: Any

    def __init__(self, publisher: BackgroundPublisher, rounds: int) -> None:
        self._publisher, self._rounds = publisher, rounds
        self.plain: list[Cost] = []
        self.ours: list[Cost] = []
        self.hand_over: list[Cost] = []
        self.sizes = (0, 0)
        self.epoch_seconds = 0.0

    def report(self, epoch: EpochReport) -> bool:
        """Measure where this was the last epoch; best.pt is written by neither way."""
        if epoch.epoch + 1 < epoch.epochs:
            return True
        self.epoch_seconds = epoch.seconds
        best_fitness, self.trainer.best_fitness = self.trainer.best_fitness, None
        last, plain = self.trainer.last, self.trainer.last.with_name("plain.pt")
        for round_ in range(self._rounds + 1):
            self._save(last, plain, round_)
        self.trainer.last, self.trainer.best_fitness = last, best_fitness
        self.sizes = (plain.stat().st_size, last.stat().st_size)
        for measured in (self.plain, self.ours, self.hand_over):
            del measured[0]  # new files, cold code
        return True

    def _save(self, last: Path, plain: Path, round_: int) -> None:
        from ultralytics.engine.trainer import BaseTrainer

        self.trainer.last = plain
        self.plain.append(Cost.of(lambda: BaseTrainer.save_model(self.trainer)))
        self.trainer.last = last
        self.ours.append(Cost.of(self.trainer.save_model))
        self.hand_over.append(Cost.of(lambda: self._hand_over(last, round_)))
        wait_until_durable(self._publisher, round_)

    def _hand_over(self, last: Path, round_: int) -> None:
        from include.checkpoints.publisher import Snapshot
        from include.training.saving import snapshot

        copy = last.with_name(f"last-{round_}.pt")
        snapshot(last, copy)
        self._publisher.publish(Snapshot(round_, copy, is_best=False))


if __name__ == "__main__":
    main(measure)

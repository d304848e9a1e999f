"""The training loader alone: how many samples it delivers, and how many images it has to decode for them.

python -m benchmarks.loader [--quick]
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.figures import Middle, ratios
from benchmarks.material import photos
from benchmarks.place import main
from benchmarks.table import Table, progress

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized
    from pathlib import Path

BATCH = 16
SETTLED_BATCHES = 72
"""After so many, every image that a mosaic may ask for has been decoded once."""

LOADERS = ("plain", "ours", "ours, whole data set")


def measure(folder: Path, quick: bool) -> Table:
    """Build and time the loaders one after the other, several rounds, another one first each time."""
    rounds, batches = (1, 8) if quick else (5, 48)
    data, images = photos(folder / "photos", 1200 if quick else 4000, 8, drawn=40 if quick else 400)
    table = Table(
        "The training loader alone",
        f"{images} JPEG photographs, imgsz=640, batch={BATCH}, mosaic and all other augmentations on, no "
        "cache; without workers as on a CPU, with workers as on a GPU. `Whole data set` is ours with mosaic "
        f"partners from everywhere instead of from recent batches. Medians of {rounds} rounds of {batches} "
        "batches, the ratios to plain with their 95 % interval. Processor time is that of all processes of "
        "the loader for a sample.",
        ("loader", "workers", "samples/s", "to plain", "processor ms", "to plain", "decoded images"),
    )
    for workers in (0, 1, 2):
        found: dict[str, list[Pace]] = {name: [] for name in LOADERS}
        for round_ in range(rounds):
            progress(f"{workers} workers, round {round_ + 1} of {rounds} …")
            first = round_ % len(LOADERS)
            for name in LOADERS[first:] + LOADERS[:first]:
                with _loader(name, data, folder / "run", workers) as (loader, decoded):
                    found[name].append(_time(loader, decoded, batches))
        for name, paces in found.items():
            table.add(name, str(workers), *_cells(paces, found["plain"]))
    return table


@dataclass(frozen=True)
class Pace:
    """Samples a second; processor seconds and decoded images a sample."""

    speed: float
    work: float
    decoded: float


def _cells(paces: list[Pace], plain: list[Pace]) -> list[str]:
    speeds, works, decoded = (
        [getattr(pace, name) for pace in paces] for name in ("speed", "work", "decoded")
    )
    faster = Middle.of(ratios(speeds, [pace.speed for pace in plain]))
    dearer = Middle.of(ratios(works, [pace.work for pace in plain]))
    return [
        f"{statistics.median(speeds):.0f}",
        f"{faster:.2f}",
        f"{statistics.median(works) * 1000:.1f}",
        f"{dearer:.2f}",
        f"{statistics.median(decoded):.2f}",
    ]


def _time(loader: Any, decoded: Synchronized[int], batches: int) -> Pace:
    delivered = _forever(loader)
    for _ in range(SETTLED_BATCHES):
        next(delivered)
    images, worked, started = decoded.value, _processor_seconds(loader), time.perf_counter()
    samples = sum(len(next(delivered)["im_file"]) for _ in range(batches))
    seconds = time.perf_counter() - started
    work, read = _processor_seconds(loader) - worked, decoded.value - images
    return Pace(samples / seconds, work / samples, read / samples)


def _processor_seconds(loader: Any) -> float:
    """Of this process and the loader's workers."""
    workers = [psutil.Process(worker.pid).cpu_times() for worker in getattr(loader.iterator, "_workers", ())]
    return time.process_time() + sum(times.user + times.system for times in workers)


def _forever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader


@contextmanager
def _loader(name: str, data: Path, folder: Path, workers: int) -> Iterator[tuple[Any, Synchronized[int]]]:
    """A training loader of that kind, and the count of images that it and its workers decode."""
    from ultralytics.models.yolo.detect import DetectionTrainer

    from include.training.order import seed_samples

    overrides: dict[str, Any] = {
        "model": "yolo11n.yaml",
        "data": str(data),
        "save_dir": str(folder),
        "device": "cpu",
    }
    overrides |= {"imgsz": 640, "batch": BATCH, "plots": False}
    trainer = DetectionTrainer(overrides=overrides)
    trainer.args.workers = workers  # Ultralytics sets none on a CPU
    trainer.setup_model()
    loader = trainer.get_dataloader(trainer.data["train"], batch_size=BATCH, rank=-1, mode="train")
    if name != "plain":
        seed_samples(loader, seed=0, rank=0, replicas=1, on_gpu=workers > 0)
    if name == "ours, whole data set":
        loader.dataset.transforms.transforms[0].transforms[0].buffer_enabled = False
    with _counted_decodes() as decoded:
        try:
            yield loader, decoded
        finally:
            loader.close()


@contextmanager
def _counted_decodes() -> Iterator[Synchronized[int]]:
    """Count in shared memory, which the workers inherit; a lock costs nothing beside an image."""
    from ultralytics.data import base

    decoded, read = multiprocessing.Value("l", 0), base.imread

    def counting(*arguments: Any, **options: Any) -> Any:
        with decoded.get_lock():
            decoded.value += 1
        return read(*arguments, **options)

    base.imread = counting
    try:
        yield decoded
    finally:
        base.imread = read


if __name__ == "__main__":
    main(measure)

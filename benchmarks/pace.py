"""Measure how fast a training loader delivers samples, and how many images it decodes for them."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

BATCH = 16
SETTLED_BATCHES = 72
"""Number of batches after which every image that a mosaic may use has been decoded once."""

WHOLE_DATA_SET = "ours, whole dataset"
LOADERS = ("plain", "ours", WHOLE_DATA_SET)


@dataclass(frozen=True)
class Pace:
    """The pace of a loader."""

    speed: float
    """Samples per second."""
    work: float
    """Processor seconds per sample."""
    decoded: float
    """Decoded images per sample."""


def measure_pace(
    loader: Any, decoded: Synchronized[int], batches: int, settled: int = SETTLED_BATCHES
) -> Pace:
    """Fetch batches as fast as possible; skip the first `settled`, and measure the next `batches`."""
    delivered = _forever(loader)
    for _ in range(settled):
        next(delivered)
    images, worked, started = decoded.value, _processor_seconds(loader), time.perf_counter()
    samples = sum(len(next(delivered)["im_file"]) for _ in range(batches))
    seconds = time.perf_counter() - started
    work, read = _processor_seconds(loader) - worked, decoded.value - images
    return Pace(samples / seconds, work / samples, read / samples)


@contextmanager
def training_loader(
    name: str, data: Path, folder: Path, workers: int, imgsz: int = 640, batch: int = BATCH
) -> Iterator[tuple[Any, Synchronized[int]]]:
    """Yield the training loader `name`, one of LOADERS, and a counter of the images that it decodes."""
    from ultralytics.models.yolo.detect import DetectionTrainer

    from include.training.resumable_loader import seed_samples

    overrides: dict[str, Any] = {
        "model": "yolo11n.yaml",
        "data": str(data),
        "save_dir": str(folder),
        "device": "cpu",
    }
    overrides |= {"imgsz": imgsz, "batch": batch, "plots": False}
    trainer = DetectionTrainer(overrides=overrides)
    trainer.args.workers = workers  # Ultralytics sets workers to 0 on a CPU
    trainer.setup_model()
    loader = trainer.get_dataloader(trainer.data["train"], batch_size=batch, rank=-1, mode="train")
    if name != "plain":
        seed_samples(loader, seed=0, rank=0, replicas=1, on_gpu=workers > 0)
    if name == WHOLE_DATA_SET:
        loader.dataset.transforms.transforms[0].transforms[0].buffer_enabled = False
    with count_decodes() as decoded:
        try:
            yield loader, decoded
        finally:
            loader.close()


@contextmanager
def count_decodes() -> Iterator[Synchronized[int]]:
    """Count decoded images in shared memory, which the workers inherit.

    Locking the counter costs little compared with decoding an image.
    """
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


def _processor_seconds(loader: Any) -> float:
    """Return the processor time of this process and the loader's workers."""
    workers = [psutil.Process(worker.pid).cpu_times() for worker in getattr(loader.iterator, "_workers", ())]
    return time.process_time() + sum(times.user + times.system for times in workers)


def _forever(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader

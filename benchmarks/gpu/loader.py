"""Measure the training loader alone, without the GPU."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.child import run_in_child
from benchmarks.gpu.photographs import many_photographs
from benchmarks.gpu.step import Step
from benchmarks.pace import measure_pace, training_loader

if TYPE_CHECKING:
    from benchmarks.gpu.place import Place
    from benchmarks.pace import Pace


def _measure(place: Place) -> Iterator[Sequence[Any]]:
    data = many_photographs(place)
    for workers in (2,) if place.quick else (2, 4, 6, 8, 12, 16):
        paces = []
        for name in ("plain", "ours"):
            log = place.folder / f"loader-{workers}.log"
            with run_in_child(
                _pace, name, data, place.folder / "loader", workers, place.quick, log=log
            ) as child:
                paces.append(child.result())
        plain, ours = paces
        yield [
            workers, plain.speed, ours.speed, ours.speed / plain.speed, plain.decoded, ours.decoded,
            1000 * plain.work, 1000 * ours.work,
        ]  # fmt: skip


def _pace(name: str, data: Path, folder: Path, workers: int, quick: bool) -> Pace:
    imgsz, batch = (64, 4) if quick else (640, 16)
    with training_loader(name, data, folder, workers, imgsz, batch) as (loader, decoded):
        return measure_pace(loader, decoded, *((4, 2) if quick else (64,)))


STEP = Step(
    "loader",
    "The loader alone: samples per second, and the decoded images and the processor time per sample. 2,000 "
    "photographs, imgsz=640, batch=16, all augmentations, no cache. Once all images that a mosaic may use "
    "have been decoded, 64 batches are measured.",
    (
        "workers", "plain, samples/s", "ours, samples/s", "ours / plain", "plain, decoded images",
        "ours, decoded images", "plain, processor ms", "ours, processor ms",
    ),
    _measure,
    seconds=70,
)  # fmt: skip

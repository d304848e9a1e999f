"""Measure how fast the training loader alone delivers samples, and how many images it decodes for them.

python -m benchmarks.loader [--quick]
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import MedianInterval, ratios, rotated
from benchmarks.material import make_photos
from benchmarks.pace import BATCH, LOADERS, SETTLED_BATCHES, measure_pace, training_loader
from benchmarks.place import main
from benchmarks.table import Table, progress

if TYPE_CHECKING:
    from benchmarks.pace import Pace


def measure(folder: Path, quick: bool) -> Table:
    """Build and time the loaders one after the other, in several rounds that start with different loaders."""
    rounds, batches, settled = (1, 4, 2) if quick else (5, 48, SETTLED_BATCHES)
    data, images = make_photos(folder / "photos", 200 if quick else 4000, 8, drawn=40 if quick else 400)
    table = Table(
        "The training loader alone",
        f"{images} JPEG photographs, imgsz=640, batch={BATCH}, mosaic and all other augmentations on, no "
        "cache; measured without workers, as when training on a CPU, and with one and two workers, as when "
        "training on a GPU. `ours, whole dataset` draws mosaic "
        f"partners from the whole dataset instead of from recent batches. Medians of {rounds} rounds of "
        f"{batches} batches, the ratios to plain with their 95 % CI. Processor time is per sample, "
        "for all processes of the loader together.",
        ("loader", "workers", "samples/s", "to plain", "processor ms", "to plain", "decoded images"),
    )
    faster: dict[str, float] = {}
    cheaper: dict[str, float] = {}
    for workers in (0, 1) if quick else (0, 1, 2):
        found: dict[str, list[Pace]] = {name: [] for name in LOADERS}
        for round_ in range(rounds):
            progress(f"{workers} workers, round {round_ + 1} of {rounds} …")
            for name in rotated(LOADERS, round_):
                with training_loader(name, data, folder / "run", workers) as (loader, decoded):
                    found[name].append(measure_pace(loader, decoded, batches, settled))
        for name, paces in found.items():
            table.add(name, str(workers), *_cells(paces, found["plain"]))
        case = f"{workers} workers"
        faster[case] = statistics.median(
            ratios([pace.speed for pace in found["ours"]], [pace.speed for pace in found["plain"]])
        )
        cheaper[case] = statistics.median(
            ratios([pace.work for pace in found["plain"]], [pace.work for pace in found["ours"]])
        )
    speed = table.compare("at least 1.3 times the samples/s of plain", faster, 1.3, at_least=True)
    work = table.compare("at least 1.3 times the samples per processor second", cheaper, 1.3, at_least=True)
    table.result = f"{speed} For processor time, {work}"
    return table


def _cells(paces: list[Pace], plain: list[Pace]) -> list[str]:
    speeds, works, decoded = (
        [getattr(pace, name) for pace in paces] for name in ("speed", "work", "decoded")
    )
    faster = MedianInterval.of(ratios(speeds, [pace.speed for pace in plain]))
    dearer = MedianInterval.of(ratios(works, [pace.work for pace in plain]))
    return [
        f"{statistics.median(speeds):.0f}",
        f"{faster:.2f}",
        f"{statistics.median(works) * 1000:.1f}",
        f"{dearer:.2f}",
        f"{statistics.median(decoded):.2f}",
    ]


if __name__ == "__main__":
    main(measure)

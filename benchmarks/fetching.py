"""Time checking and fetching a dataset, compared with `s5cmd sync` plus the scan of plain Ultralytics.

`python -m benchmarks.fetching [--quick]` prints the table.
"""

from __future__ import annotations

import os
import shutil
import statistics
from typing import TYPE_CHECKING

from benchmarks.costs import Cost, family_time, run_in_process
from benchmarks.datasets import PREFIX, S3, Machine, upload
from benchmarks.figures import MedianInterval, ratios, rotated
from benchmarks.place import BUCKET, local_services, main
from benchmarks.table import Table, progress
from benchmarks.transfer_clients import s5cmd
from include.datasets.caching.fetch import materialize
from include.datasets.layouts.boundary import DatasetRoots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from benchmarks.transfer_clients import Program

IMAGES = 10_000

SYNC = "s5cmd sync"
SCAN = "Ultralytics' scan after s5cmd"
OURS = "ours: check and fetch"
OUR_SCAN = "Ultralytics' scan after ours"


def measure(folder: Path, quick: bool) -> Table:
    """Upload a dataset; fetch it with s5cmd and with this project in turn, each time into an empty folder."""
    rounds, images = (1, 200) if quick else (7, IMAGES)
    found: dict[str, list[Cost]] = {name: [] for name in (SYNC, SCAN, OURS, OUR_SCAN)}
    with local_services(folder) as services:
        source = S3(services)
        upload(source, images)
        for number in range(rounds):
            fetched = folder / "fetched"
            sides = (_plainly(s5cmd(services), fetched), _with_ours(Machine(source, fetched)))
            for side in rotated(sides, number):
                for name, spent in side:
                    found[name].append(spent)
                shutil.rmtree(fetched)
            progress(
                f"{number + 1} of {rounds}: "
                + ", ".join(f"{name} {spent[-1].seconds:.1f} s" for name, spent in found.items())
            )
    return table_of(found, images)


def table_of(found: dict[str, list[Cost]], images: int) -> Table:
    """Return the table: each step, the totals of plain and ours, and the ratios of the totals."""
    rounds = len(found[OURS])
    table = Table(
        "Checking and fetching a dataset",
        f"{images:,} JPEG files of 64 x 64 pixels with a label file each, below a prefix in the S3 server of "
        "the local stack. Plain: `s5cmd sync` into an empty folder, then `check_det_dataset` and the label "
        "caches of both splits, as `yolo train` does before its first batch. Ours: `check_dataset` into an "
        "empty cache, which verifies every byte, image and label, and `materialize`. A training run in this "
        "project also scans the data; `with the scan` includes that. The sides take turns, and the import "
        f"of torch is not included; medians of {rounds} with the 95 % CI, and processor seconds.",
        ("", "seconds", "processor"),
    )
    rows = (
        (SYNC, (SYNC,)),
        (SCAN, (SCAN,)),
        ("plain, together", (SYNC, SCAN)),
        (OURS, (OURS,)),
        (OUR_SCAN, (OUR_SCAN,)),
        ("ours with the scan, together", (OURS, OUR_SCAN)),
    )
    for title, names in rows:
        table.add(title, *(f"{MedianInterval.of(values):.1f}" for values in _sum(found, names)))
    plain, ours, scanned = (_sum(found, names)[0] for names in ((SYNC, SCAN), (OURS,), (OURS, OUR_SCAN)))
    compared = {"ours / plain": ratios(ours, plain), "ours with the scan / plain": ratios(scanned, plain)}
    for title, values in compared.items():
        table.add(title, f"{MedianInterval.of(values):.2f}", "")
    medians = {title: statistics.median(values) for title, values in compared.items()}
    table.result = str(table.compare("at most 1.0", medians, 1.0))
    return table


def _sum(found: dict[str, list[Cost]], names: tuple[str, ...]) -> tuple[list[float], list[float]]:
    """Return, for each round, the total seconds and the total processor seconds of these steps."""
    rounds = list(zip(*(found[name] for name in names), strict=True))
    return (
        [sum(spent.seconds for spent in steps) for steps in rounds],
        [sum(spent.processor_seconds for spent in steps) for steps in rounds],
    )


def _plainly(program: Program, folder: Path) -> Iterator[tuple[str, Cost]]:
    folder.mkdir()
    yield SYNC, program.run("--log", "error", "sync", f"s3://{BUCKET}/{PREFIX}*", f"{folder}/")
    yield SCAN, run_in_process(_cost, scan, folder / "data.yaml", False)[0]


def _with_ours(machine: Machine) -> Iterator[tuple[str, Cost]]:
    spent, data = run_in_process(_cost, fetch, machine)
    yield OURS, spent
    yield OUR_SCAN, run_in_process(_cost, scan, data, True)[0]


def fetch(machine: Machine) -> Path:
    """Check the dataset and make it available; return the data YAML."""
    reference = machine.check()
    reader, listings = machine.source.open()
    with materialize(reference, machine.cache, reader, DatasetRoots(), listings, machine.limit) as local:
        return local.data


def scan(data: Path, safely: bool) -> Path:
    """Scan a dataset as `yolo train` does before its first batch or, with `safely`, as our trainer does.

    Returns `data`, the path of the data YAML.
    """
    from ultralytics.cfg import get_cfg
    from ultralytics.data.build import build_yolo_dataset
    from ultralytics.data.utils import check_det_dataset

    if safely:
        from include.training.quiet import tame_ultralytics

        tame_ultralytics()
    os.chdir(data.parent)  # `path: .` is relative to the working directory
    described = check_det_dataset(str(data))
    settings = get_cfg(overrides={"task": "detect", "imgsz": 64})
    for mode in ("train", "val"):
        build_yolo_dataset(settings, described[mode], 16, described, mode=mode, rect=mode == "val")
    return data


def _cost(step: Callable[..., Path], *arguments: object) -> tuple[Cost, Path]:
    """Return a step's cost and result; the cost excludes importing the modules that plain and ours share."""
    import boto3  # noqa: F401
    import ultralytics.data.build  # noqa: F401

    results: list[Path] = []
    cost = Cost.of(lambda: results.append(step(*arguments)), family_time)
    return cost, results[0]


if __name__ == "__main__":
    main(measure)

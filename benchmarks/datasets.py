"""Measure how long it takes to make a large dataset in S3 available to training, and to add one image.

`python -m benchmarks.datasets [--images NUMBER] [--without-s3]` prints the table. Each step runs in its own
process; the table shows the memory of that process and of the confined processes that it starts.
"""

from __future__ import annotations

import argparse
import logging
import resource
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from benchmarks.costs import family_time, peak_memory, run_in_process
from benchmarks.folder_objects import FolderObjects
from benchmarks.place import BUCKET, local_services, shared_client, workspace
from benchmarks.table import Table, machine, progress, show
from include.datasets.caching.cache import DatasetCache
from include.datasets.caching.eviction import make_room
from include.datasets.caching.eviction import measure as measure_cache
from include.datasets.caching.fetch import materialize
from include.datasets.caching.listing import S3Listings
from include.datasets.check import inspect_dataset
from include.datasets.layouts.boundary import DatasetRoots
from include.datasets.reference import DatasetReference
from include.datasets.s3 import S3ObjectReader
from include.limits import KIB, MIB
from include.s3.bucket import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.place import Services
    from include.datasets.storage import ObjectReader

PREFIX = "set/"
"""Where the dataset is in the bucket."""
_UPLOADS = 3
_TOGETHER = 1000


class Source(Protocol):
    """Where the objects are; pickled and sent to the processes that are measured."""

    def open(self) -> tuple[ObjectReader, S3Listings | None]:
        """Return a reader of the objects, and the store of their listings."""

    def put(self, key: str, content: bytes) -> None:
        """Store an object."""


@dataclass(frozen=True)
class S3:
    """The S3 server of the local stack."""

    services: Services

    def open(self) -> tuple[S3ObjectReader, S3Listings]:
        """Return a reader of the objects, and the store of their listings."""
        client = shared_client(self.services)
        return S3ObjectReader(client), S3Listings(Bucket(client, BUCKET))

    def put(self, key: str, content: bytes) -> None:
        """Store an object."""
        shared_client(self.services).put_object(Bucket=BUCKET, Key=key, Body=content)


@dataclass(frozen=True)
class Step:
    """The time and memory that a step took."""

    seconds: float
    processor_seconds: float
    """Processor time of the process and of those that it started."""
    own_memory: int
    """Peak memory of the process itself, in bytes."""
    confined_memory: int
    """Peak memory of the largest process that it started, in bytes."""
    reference: str
    """The dataset that the step returned, as JSON."""

    def row(self, title: str) -> tuple[str, ...]:
        """Return the cells of the row for this step."""
        memory = (f"{size / MIB:,.0f} MiB" for size in (self.own_memory, self.confined_memory))
        return (title, f"{self.seconds:,.1f} s", f"{self.processor_seconds:,.1f} s", *memory)


@dataclass(frozen=True)
class Machine:
    """A machine that shares only S3 with the other machines."""

    source: Source
    cache: Path
    limit: int = 10**15

    def check(self) -> DatasetReference:
        """Check the dataset, as the task `check_dataset` does."""
        reader, listings = self.source.open()
        uri = f"s3://{BUCKET}/{PREFIX}"
        return inspect_dataset(
            uri, "detect", self.cache, reader, DatasetRoots(), listings, cache_limit=self.limit
        ).reference

    def materialize(self, reference: DatasetReference) -> DatasetReference:
        """Make the dataset available, as the task `train` does."""
        reader, listings = self.source.open()
        with materialize(reference, self.cache, reader, DatasetRoots(), listings, self.limit):
            return reference


def measure(folder: Path, images: int, without_s3: bool) -> Table:
    """Upload a dataset and time each step on two machines."""
    if without_s3:
        return follow(
            FolderObjects(folder / "objects"), folder, images, "in a folder instead of an S3 server"
        )
    with local_services(folder) as services:
        return follow(S3(services), folder, images, "in the S3 server of the local stack")


def follow(source: Source, folder: Path, images: int, where: str) -> Table:
    """Upload a dataset to `source` and time each step on two machines."""
    table = Table(
        f"A dataset of {images:,} images below a prefix",
        f"{images:,} JPEG files of 64 x 64 pixels with a label file each, {where}, on the same machine and "
        "disk. Larger images take longer to transfer and to decode; everything else depends on the number "
        "of files. `memory` is the peak resident size of the process. `confined` is the peak resident size "
        "of the process that it starts for checking or linking. `processor` is the processor time of both.",
        ("step", "time", "processor", "memory", "confined"),
    )
    started = time.monotonic()
    upload(source, images)
    progress(f"uploaded in {time.monotonic() - started:.0f} s")
    one = Machine(source, folder / "one")
    first = _run(table, "the first check, with the download", one.check)
    _run(table, "the same check again", one.check)
    _run(table, "the first training run on that machine", one.materialize, first)
    _run(table, "the next one", one.materialize, first)
    _put(source, images)
    second = _run(table, "one image was added: the check", one.check)
    _run(table, "one image was added: the training run", one.materialize, second)
    _add_sizes(table, DatasetCache.open(one.cache))
    another = Machine(source, folder / "another")
    _run(table, "a training run on another machine, with the download", another.materialize, second)
    return table


def _run(
    table: Table, title: str, step: Callable[..., DatasetReference], reference: DatasetReference | None = None
) -> DatasetReference:
    done = run_in_process(_measure_step, step, *(() if reference is None else (reference,)))
    row = done.row(title)
    progress(" · ".join(row))
    table.add(*row)
    return DatasetReference.model_validate_json(done.reference)


def _measure_step(step: Callable[..., DatasetReference], *arguments: DatasetReference) -> Step:
    logging.basicConfig(level=logging.WARNING)
    started = time.monotonic()
    reference = step(*arguments)
    seconds = time.monotonic() - started
    confined = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * KIB
    return Step(seconds, family_time(), peak_memory(), confined, reference.model_dump_json())


def _add_sizes(table: Table, cache: DatasetCache) -> None:
    """Add the cache size with both versions, and its size after an eviction with room for only one."""
    both = measure_cache(cache)
    table.add("cache size with both versions", f"{both / MIB:,.0f} MiB", "", "", "")
    started = time.monotonic()
    make_room(DatasetCache(cache.folder, both - 1))
    seconds = time.monotonic() - started
    left = measure_cache(cache)
    limit = f"{(both - 1) / MIB:,.0f} MiB"
    table.add(f"cache size after eviction to a limit of {limit}", f"{left / MIB:,.0f} MiB", "", "", "")
    table.add("evicting the older version", f"{seconds:,.1f} s", "", "", "")


def upload(source: Source, images: int) -> None:
    """Store a data YAML, and `images` images with their labels."""
    text = "path: .\ntrain: images/train\nval: images/val\nnames: [box]\n"
    source.put(f"{PREFIX}data.yaml", text.encode())
    starts = range(0, images, _TOGETHER)
    with ProcessPoolExecutor(_UPLOADS, mp_context=get_context("spawn")) as pool:
        stops = (min(start + _TOGETHER, images) for start in starts)
        list(pool.map(_put_range, (source for _ in starts), starts, stops))


def _put_range(source: Source, start: int, stop: int) -> None:
    with ThreadPoolExecutor(_UPLOADS) as pool:
        list(pool.map(lambda number: _put(source, number), range(start, stop)))


def _put(source: Source, number: int) -> None:
    """Upload an image and its labels; every tenth image is for validation."""
    import cv2
    import numpy as np

    pixels = np.random.default_rng(number).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    image = cv2.imencode(".jpg", cv2.resize(pixels, (64, 64)))[1].tobytes()
    split = "val" if number % 10 == 0 else "train"
    label = f"0 0.5 0.5 {(number % 97 + 10) / 120} {(number % 89 + 10) / 120}\n"
    source.put(f"{PREFIX}images/{split}/{number:07}.jpg", image)
    source.put(f"{PREFIX}labels/{split}/{number:07}.txt", label.encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Measure, and print the result as Markdown.")
    parser.add_argument("--images", type=int, default=100_000, help="number of images (100,000)")
    parser.add_argument("--without-s3", action="store_true", help="keep the objects in a folder, not in S3")
    given = parser.parse_args()
    with workspace() as place:
        description = machine()
        table = measure(place, given.images, given.without_s3)
        table.about += f"\n\n{description}"
        show(table)

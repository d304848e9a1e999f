"""Measure the throughput of our training, uploads included, against plain Ultralytics.

python -m benchmarks.overhead [--quick]
"""

from __future__ import annotations

import statistics
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.figures import MedianInterval, ratios
from benchmarks.material import make_digits, make_photos
from benchmarks.place import local_services, main
from benchmarks.sides import Setting, start_sides, take_turns, train_ours, train_plain
from benchmarks.table import Table, progress

if TYPE_CHECKING:
    from benchmarks.place import Services


def measure(folder: Path, quick: bool) -> Table:
    """Measure training runs that take turns: plain, ours and, as a control, plain with another seed."""
    table = Table(
        "Throughput against plain Ultralytics",
        "YOLO11n with Ultralytics' defaults: training images per second over a whole epoch, validation and "
        "saving included. Ours also records in Postgres and uploads each state to S3; both servers run on "
        "the same machine. The ratio is the median over pairs of consecutive epochs, one of each side, with "
        "its 95 % CI. The next column is the same ratio for the processor time of the training thread, "
        "because other programs disturb this time less. The control compares plain with plain under another "
        "seed: its distance from 1 is noise. *Rest* is the time before the second epoch and after the last "
        "one, including the upload of the final files to S3.",
        (
            "training", "epochs", "plain, images/s", "ours, images/s", "ours / plain", "by processor time",
            "control", "rest, plain", "rest, ours",
        ),
    )  # fmt: skip
    with local_services(folder) as services:
        if quick:
            data, images = make_photos(folder / "few", 16, 8)
            setting = Setting(data, 3, {"imgsz": 64})
            table.add(f"{images} photographs", *_compare(setting, images, folder / "small", services))
            return table
        data, images = make_digits(folder / "digits")
        setting = Setting(data, 25, {"imgsz": 64})
        table.add(f"{images} scenes of 64 px", *_compare(setting, images, folder / "small", services))
        seldom = replace(setting, publish_every=10)
        table.add(
            f"{images} scenes of 64 px, publish_every=10",
            *_compare(seldom, images, folder / "seldom", services),
        )
        data, images = make_photos(folder / "photos", 300, 60)
        setting = Setting(data, 11, {"imgsz": 320})
        table.add(f"{images} photographs, imgsz=320", *_compare(setting, images, folder / "larger", services))
    return table


def _compare(setting: Setting, images: int, folder: Path, services: Services) -> list[str]:
    folder.mkdir()
    again = replace(setting, arguments=setting.arguments | {"seed": 1})
    plays = (
        (train_plain, setting, folder / "a"),
        (train_ours, setting, folder / "b", services, folder.name),
        (train_plain, again, folder / "c"),
    )
    with start_sides(*plays, folder=folder) as playing:
        progress(f"{setting.epochs} epochs of three training runs on {setting.data.parent.name} …")
        turns = take_turns(playing, setting.epochs + 1)
    theirs, own, control = ([turn.seconds for turn in taken[1:-1]] for taken in turns)
    their_work, own_work, _ = ([turn.processor_seconds for turn in taken[1:-1]] for taken in turns)
    return [
        str(len(own)),
        *(f"{images / statistics.median(seconds):.1f}" for seconds in (theirs, own)),
        f"{MedianInterval.of(ratios(theirs, own)):.3f}",
        f"{MedianInterval.of(ratios(their_work, own_work)):.3f}",
        f"{MedianInterval.of(ratios(theirs, control)):.3f}",
        *(f"{taken[0].seconds + taken[-1].seconds:.1f} s" for taken in turns[:2]),
    ]


if __name__ == "__main__":
    main(measure)

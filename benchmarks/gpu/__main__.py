"""Print all tables: `python -m benchmarks.gpu --minutes 8 --out gpu-results`, or `make bench-gpu`.

If the pinned Ultralytics is not installed, it is installed from the folder that `make gpu-wheels` fills.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.gpu.packages import ensure_ultralytics
from benchmarks.gpu.page import format_table
from benchmarks.gpu.place import Place
from benchmarks.gpu.record import FILE_NAME, Record
from benchmarks.gpu.step import run
from benchmarks.sides import isolate

if TYPE_CHECKING:
    from benchmarks.gpu.step import Step

_LEAST_SECONDS = 5.0
"""A step starts only if at least this much time is left."""

_IMPORTED_ONCE = (
    "include.training.run", "include.training.trainers", "matplotlib.pyplot", "polars", "thop",
    "torch._dynamo", "torch._inductor.config", "torchvision", "ultralytics.data.build",
)  # fmt: skip
"""Modules that every training run imports; importing them takes three seconds. None initialises CUDA."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the steps that the command line asks for; return 1 if one of them failed."""
    options = _parser().parse_args(argv)
    ends = time.monotonic() + options.minutes * 60
    out: Path = options.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    ensure_ultralytics(out / "packages")
    place = Place(_device(options.device), _make_folder(out), options.quick, ends, options.stack)
    steps = _select_steps(options.steps)
    isolate(place.folder)
    from include.training.quiet import tame_ultralytics

    tame_ultralytics()
    if not all(step.trains_elsewhere for step in steps):
        for module in _IMPORTED_ONCE:
            importlib.import_module(module)
    record = Record(out / FILE_NAME)
    record.begin(_about(place))
    failed = False
    for step in steps:
        seconds = place.seconds_left if place.quick else min(step.seconds, place.seconds_left)
        if seconds < _LEAST_SECONDS:
            record.end_step(step.name, "skipped", "no time was left", 0)
        else:
            run(step, place, record, seconds)
        outcome = record.latest().outcome(step.name)
        failed |= outcome.status == "failed"
        sys.stdout.write(f"{format_table(step, outcome)}\n")
        sys.stdout.flush()
    return int(failed)


def _select_steps(names: Sequence[str] | None) -> list[Step]:
    """Return the steps with these names, or all steps. Exits with an error message for an unknown name."""
    from benchmarks.gpu.steps import STEPS

    known = [step.name for step in STEPS]
    if unknown := [name for name in names or () if name not in known]:
        raise SystemExit(f"There is no step {unknown[0]!r}; the steps are {', '.join(map(repr, known))}")
    return [step for step in STEPS if not names or step.name in names]


def _device(given: str) -> str:
    """Return the device to use.

    NVML counts the GPUs without initialising CUDA. Once CUDA is initialised, forked children cannot use it.
    """
    if given != "auto":
        return given
    from benchmarks.gpu.watching import count_gpus

    return "0" if count_gpus() else "cpu"


def _make_folder(out: Path) -> Path:
    folder = out / f"work-{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}"
    folder.mkdir()
    return folder


def _about(place: Place) -> dict[str, object]:
    command = " ".join(["python -m benchmarks.gpu", *sys.argv[1:]])
    return {"command": command, "date": f"{datetime.now(UTC):%Y-%m-%d}", "device": place.device}


def _existing_stack(folder: str) -> Path:
    from include.stack.state import StateFolder

    path = Path(folder).resolve()
    if not StateFolder(path).exists():
        raise argparse.ArgumentTypeError(
            f"{folder} is not the folder of a local stack; `make up` creates one in .stack"
        )
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="Measure this project on a GPU, without a network."
    )
    parser.add_argument("--minutes", type=float, default=8, help="time limit in minutes; default 8")
    parser.add_argument(
        "--device",
        default="auto",
        help="number of a GPU, or cpu; default: the first GPU, or the CPU if there is none",
    )
    parser.add_argument("--quick", action="store_true", help="only check that it runs, with tiny settings")
    parser.add_argument(
        "--out", type=Path, default=Path("gpu-results"), help=f"folder for {FILE_NAME} and logs"
    )
    parser.add_argument(
        "--steps", nargs="+", metavar="STEP", help="run only these steps, for example: profile throughput"
    )
    parser.add_argument(
        "--stack",
        type=_existing_stack,
        metavar="FOLDER",
        help="folder of a running local stack for the step 'the task'; default: that step starts a stack",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Run each step in its own process, so that a hang or a CUDA error does not affect the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.sides import redirect

if TYPE_CHECKING:
    from benchmarks.gpu.place import Place
    from benchmarks.gpu.record import Record

_FORK = multiprocessing.get_context("fork")
"""Forked processes inherit the imported modules. CUDA must not be initialised before a fork."""


class Skipped(Exception):
    """The machine cannot run the step; the message says why."""


@dataclass(frozen=True)
class Step:
    """One table: its description, and the function that yields its rows."""

    name: str
    about: str
    columns: tuple[str, ...]
    measure: Callable[[Place], Iterable[Sequence[Any]]]
    seconds: float
    """Time limit: a step that takes longer is stopped."""
    needs_gpu: bool = False
    trains_elsewhere: bool = False
    """Whether the model is trained by another program, such as Airflow, rather than by this one."""

    def rows(self, place: Place) -> Iterable[Sequence[Any]]:
        """Measure and yield the rows. Raises Skipped if the step needs a GPU and there is none."""
        if self.needs_gpu and not place.on_gpu:
            raise Skipped("it needs CUDA")
        return self.measure(place)


def run(step: Step, place: Place, record: Record, seconds: float) -> None:
    """Run the step for at most `seconds`, and record its rows and how it ended."""
    start = time.monotonic()
    place = replace(place, ends=start + seconds)
    process = _FORK.Process(target=_run_here, args=(step, place, record, start))
    process.start()
    try:
        process.join(seconds)
    finally:
        late = process.is_alive()
        kill_with_children(process.pid)
        process.join()
    if late:
        record.end_step(step.name, "failed", f"it took longer than {seconds:.0f} s", seconds)
    elif process.exitcode:
        reason = f"its process ended with status {process.exitcode}"
        record.end_step(step.name, "failed", reason, time.monotonic() - start)


def _run_here(step: Step, place: Place, record: Record, start: float) -> None:
    redirect(record.path.with_name(f"{step.name}.log".replace(" ", "-")))
    status, reason = "done", ""
    try:
        for row in step.rows(place):
            record.add_row(step.name, row)
    except Skipped as skipped:
        status, reason = "skipped", str(skipped)
    except Exception as error:
        traceback.print_exc()
        status, reason = "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
    record.end_step(step.name, status, reason, time.monotonic() - start)
    sys.stdout.flush()
    sys.stderr.flush()
    # Exit without waiting for child processes, which may hang; the parent kills them.
    os._exit(0)


def kill_with_children(pid: int | None) -> None:
    """Kill the process and its descendants."""
    try:
        process = psutil.Process(pid)
        family = [*process.children(recursive=True), process]
    except psutil.NoSuchProcess:
        return
    for member in family:
        try:
            member.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue

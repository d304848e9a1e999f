"""Measure the time from the start of a process to the end of its first batch."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.child import ChildDied, run_in_child
from benchmarks.gpu.step import Step, kill_with_children
from benchmarks.gpu.training_run import TrainingRun, train_until_killed
from benchmarks.sides import redirect

if TYPE_CHECKING:
    from benchmarks.gpu.place import Place

_SPAWN, _FORK = multiprocessing.get_context("spawn"), multiprocessing.get_context("fork")


def _measure(place: Place) -> Iterator[Sequence[Any]]:
    folder = place.own("start")
    training = TrainingRun.of_many(place, folder / "whole", 3)
    log = folder / "state.log"
    with run_in_child(train_until_killed, training, 1, 0, log=log) as child, suppress(ChildDied):
        child.result()
    resumed = folder / "resumed"
    shutil.copytree(training.folder, resumed)
    starts = {
        "plain": replace(training, folder=folder / "plain"),
        "ours, cold": replace(training, folder=folder / "cold"),
        "ours, resumed": replace(training, folder=resumed, recover=True),
    }
    for name, one in starts.items():
        log = folder / f"{one.folder.name}.log"
        # The imports of a new process take seconds, so with --quick only one process imports anything.
        is_new = name == "ours, cold" or not place.quick
        first = _seconds(name == "plain", one, log, is_new)
        yield [name, first, None if place.quick else _seconds(name == "plain", one, log)]


def _seconds(plain: bool, training: TrainingRun, log: Path, is_new: bool = True) -> float:
    """Return the seconds from the start of a process to the end of its first batch.

    With `is_new`, the process imports its modules; otherwise, it is forked from this one and inherits them.
    """
    context = _SPAWN if is_new else _FORK
    connection, theirs = context.Pipe()
    process = context.Process(target=_until_first_batch, args=(plain, training, theirs, log))
    start = time.time()
    process.start()
    theirs.close()
    try:
        moment: float = connection.recv()
    except EOFError:
        raise ChildDied(f"The training run ended before its first batch; see {log.name}.") from None
    finally:
        kill_with_children(process.pid)
        process.join()
        connection.close()
    return moment - start


def _until_first_batch(plain: bool, training: TrainingRun, connection: Connection, log: Path) -> None:
    def send_time(_: Any) -> None:
        connection.send(time.time())
        time.sleep(3600)  # until it is killed

    os.setsid()
    redirect(log)
    training.train(plain, lambda callbacks: callbacks.add_callback("on_train_batch_end", send_time))


STEP = Step(
    "start",
    "Seconds from the start of a process, imports included, to the end of its first batch, twice each: "
    "YOLO11n on 2,000 photographs, imgsz=640, batch=64. The resumed attempt continues after a kill in "
    "epoch 2.",
    ("process", "first", "second"),
    _measure,
    seconds=120,
)

"""Processes that are killed with SIGKILL at a moment observed from outside, or at a place in the code.

Attempts at a training run are forked from a server that has imported torch, so each takes a second or less.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tests.support.waiting import until

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerProcess

PRELOADED = [
    "pytest",
    "torchvision",
    "torch._dynamo",
    "include.training.run",
    "include.training.trainers",
    "include.tasks.train_yolo",
    "include.attempt.attempt",
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.providers.http.hooks.http",
    "airflow.providers.postgres.hooks.postgres",
    "tests.support.interrupted_attempts",
]
"""Modules that are slow to import and, unlike polars, start no threads, which would not survive a fork."""


class Place(NamedTuple):
    """Where a process gets SIGKILL or another signal: at the `times`-th time that it reaches `name`.

    `name` is a callback of Ultralytics ("on_val_start"), or an audit event of the interpreter with the name
    of the affected file ("os.rename last.pt.part").
    """

    name: str
    times: int = 1
    signal: int = signal.SIGKILL


class Machine(NamedTuple):
    """The differences between machines: the numbers of torch's CPU threads and of loader workers."""

    threads: int
    workers: int = 0


class Attempt:
    """A program in a separate process, which is killed at the end of the block if it still runs.

    `folder` receives the program's log, and a file with a line for each epoch that has begun.
    """

    def __init__(
        self,
        program: Callable[..., int],
        *arguments: Any,
        folder: Path,
        machine: Machine,
        dies_at: Place | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        self.log, self._begun = folder / "log", folder / "begun"
        self.log.touch()
        self._begun.touch()
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        self._process: ForkServerProcess = context.Process(
            target=_run, args=(program, arguments, self.log, self._begun, machine, dies_at)
        )
        self._process.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.status()

    @property
    def pid(self) -> int:
        """Return the id of the process."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def begun(self) -> list[int]:
        """Return the epochs, counted from 0, that the program has begun."""
        return [int(line) for line in self._begun.read_text().splitlines()]

    def kill(self) -> None:
        """Send SIGKILL; do nothing if the process has already ended."""
        self._process.kill()

    def status(self) -> int:
        """Wait for the end of the process; return its exit status, or minus the signal that killed it."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode

    def ends_within(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end of the process; return whether it has ended."""
        self._process.join(seconds)
        return self._process.exitcode is not None


def _run(
    program: Callable[..., int],
    arguments: tuple[Any, ...],
    log: Path,
    begun: Path,
    machine: Machine,
    dies_at: Place | None,
) -> None:
    import torch
    from ultralytics.utils.callbacks.base import default_callbacks

    def equip(trainer: Any) -> None:  # in a callback, because on a CPU Ultralytics first sets both itself
        torch.set_num_threads(machine.threads)
        trainer.args.workers = machine.workers

    def begin_epoch(trainer: Any) -> None:
        with begun.open("a") as file:
            file.write(f"{trainer.epoch}\n")

    with log.open("a") as file:
        os.dup2(file.fileno(), sys.__stdout__.fileno())  # type: ignore[union-attr]
        os.dup2(file.fileno(), sys.__stderr__.fileno())  # type: ignore[union-attr]
    multiprocessing.set_start_method("fork", force=True)  # the usual default, for loader workers
    default_callbacks["on_pretrain_routine_start"].append(equip)
    default_callbacks["on_train_epoch_start"].append(begin_epoch)
    if dies_at:
        die_at(dies_at)
    sys.exit(program(*arguments))


def die_at(place: Place) -> None:
    """Send this process the signal of `place` when it or one of its loader workers reaches that place."""
    from ultralytics.utils.callbacks.base import default_callbacks

    own, times = os.getpid(), count(1)

    def reach(*_: object) -> None:
        if next(times) == place.times:
            os.kill(own, place.signal)

    operation, _, name = place.name.partition(" ")
    if not name:
        default_callbacks[operation].append(reach)
        return

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event == operation and isinstance(arguments[0], (str, Path)) and _name(arguments[0]) == name:
            reach()

    sys.addaudithook(watch)


def _name(path: str | Path) -> str:
    """Return the file's name without the process id in the names of temporary files."""
    return re.sub(r"\.\d+\.part$", ".part", Path(path).name)


def stop_when(pid: int, condition: Callable[[], bool]) -> None:
    """Suspend a process (SIGSTOP) while `condition` holds, which may be only for short, recurring moments."""
    while True:
        wait_until(condition, pid)
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: _states(pid) <= {"T", "Z"}, pid)
        if condition():
            return
        os.kill(pid, signal.SIGCONT)


def wait_until(condition: Callable[[], bool], pid: int) -> None:
    """Wait until the condition holds; fail if the process ends before that."""
    what = f"what was to happen before process {pid} ends"
    until(condition, what, seconds=3600, pause=0.0002, unless=lambda: not _states(pid) - {"Z"})


def _states(pid: int) -> set[str]:
    """Return Linux's state letters of all threads of the process; the set is empty if the process is gone."""
    found = set()
    for thread in Path(f"/proc/{pid}/task").glob("*"):
        try:
            found.add((thread / "stat").read_text().rpartition(")")[2].split()[0])
        except OSError:  # the thread ended in between
            continue
    return found

"""Divides a loop over many files among forks of this process.

Threads would mostly wait for each other, because an iteration takes only a few microseconds of Python and one
system call. Forks share all data that their parent has read, such as a list of a million images, without
copying them.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, TypeVar

from include.child_processes import die_with

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.context import ForkProcess

    Pipes = dict[Connection, ForkProcess]

_FORK = multiprocessing.get_context("fork")

MANY = 20_000
"""With fewer files than this, starting several processes costs more time than it saves."""

PROCESSES = min(8, os.cpu_count() or 1)

BATCH = 1_000
"""Number of files after which a process reports its progress to the process that started it."""

T = TypeVar("T")


def share_out(work: Callable[[range], Iterator[T]], count: int, processes: int) -> Iterator[T]:
    """Run `work` on the numbers below `count`, one range in each process, and yield its results.

    Results of different processes arrive in any order. With one process, the work is done in the current
    process. With several, the current process must have no other threads: a lock that such a thread holds
    would never be released in a fork. Raises the errors of `work`. If a signal kills one of the processes,
    the same signal ends the current process.
    """
    if processes == 1:
        yield from work(range(count))
        return
    gc.freeze()  # a garbage collection in a fork would copy all shared pages
    pipes: Pipes = {}
    try:
        ends = [count * part // processes for part in range(processes + 1)]
        for start, stop in pairwise(ends):
            receiver, sender = _FORK.Pipe(duplex=False)
            process = _FORK.Process(target=_work, args=(work, range(start, stop), sender, os.getpid()))
            process.start()
            sender.close()
            pipes[receiver] = process
        yield from _receive(pipes)
    finally:
        for process in pipes.values():
            process.kill()
            process.join()


def _work(work: Callable[[range], Iterator[T]], numbers: range, sender: Connection, parent: int) -> None:
    die_with(parent)
    try:
        for item in work(numbers):
            sender.send((item, None))
    except Exception as error:  # the parent raises it
        sender.send((None, error))


def _receive(pipes: Pipes) -> Iterator[T]:
    while pipes:
        for receiver in wait(list(pipes)):
            assert isinstance(receiver, Connection)  # noqa: S101 - nothing else is waited for
            try:
                item, error = receiver.recv()
            except (EOFError, OSError):  # OSError: the process was killed while it sent a result
                _require_success(pipes.pop(receiver))
                continue
            if error is not None:
                raise error
            yield item


def _require_success(process: ForkProcess) -> None:
    process.join()
    status = process.exitcode or 0
    if status < 0:
        os.kill(os.getpid(), -status)
    if status > 0:
        raise RuntimeError(f"A process that did part of the work ended with status {status}")

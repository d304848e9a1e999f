"""Measure what work costs in seconds, processor seconds and memory, optionally in a separate process."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

from include.limits import KIB

T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """The cost of some work: elapsed seconds, and processor seconds of the thread or process that did it."""

    seconds: float
    processor_seconds: float

    @classmethod
    def of(cls, act: Callable[[], object], processor_time: Callable[[], float] = time.thread_time) -> Cost:
        """Call `act`, and return the cost of the call, by default with the processor time of this thread."""
        start, processor = time.perf_counter(), processor_time()
        act()
        return cls(time.perf_counter() - start, processor_time() - processor)


def family_time() -> float:
    """Return the processor seconds of this process and of its child processes that have ended."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(used.ru_utime + used.ru_stime for used in usage)


def peak_memory() -> int:
    """Return this process's peak memory in bytes.

    getrusage would also count the memory that the parent process used before the exec.
    """
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * KIB


def one_process() -> ProcessPoolExecutor:
    """Return a pool of one new process, which has imported nothing yet."""
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


def run_in_process(act: Callable[..., T], *arguments: Any) -> T:
    """Call `act` in a new process, and return its result."""
    with one_process() as pool:
        return pool.submit(act, *arguments).result()

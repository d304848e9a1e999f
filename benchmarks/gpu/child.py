"""Run functions in child processes, some of which are killed on purpose."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar

from benchmarks.gpu.step import kill_with_children
from benchmarks.sides import redirect

T = TypeVar("T")

_FORK = get_context("fork")


class ChildFailed(Exception):
    """The function raised an exception, which the message describes."""


class ChildDied(Exception):
    """The process ended before the function returned."""


class Child(Generic[T]):
    """A function in a child process. The child leads a new process group, which its own children join."""

    def __init__(self, act: Callable[..., T], *arguments: Any, log: Path) -> None:
        self._connection, theirs = _FORK.Pipe()
        self._process = _FORK.Process(target=_run, args=(act, arguments, theirs, log))
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The id of the process."""
        assert self._process.pid is not None  # noqa: S101 - it was started
        return self._process.pid

    def result(self) -> T:
        """Wait for the function and return its result.

        Raises ChildFailed if the function failed, and ChildDied if the process was killed.
        """
        try:
            returned, value = self._connection.recv()
        except EOFError:
            self._process.join()
            raise ChildDied(f"The process ended with status {self._process.exitcode}.") from None
        self._process.join()
        if not returned:
            raise ChildFailed(value)
        return value  # type: ignore[no-any-return]

    def end(self) -> None:
        """Kill the process, if it is still running, and its descendants."""
        self._connection.close()
        kill_with_children(self.pid)
        self._process.join()


@contextmanager
def run_in_child(act: Callable[..., T], *arguments: Any, log: Path) -> Iterator[Child[T]]:
    """Run the function in a child process, which is killed at the end of the block."""
    child = Child(act, *arguments, log=log)
    try:
        yield child
    finally:
        child.end()


def _run(act: Callable[..., Any], arguments: tuple[Any, ...], connection: Connection, log: Path) -> None:
    os.setsid()
    redirect(log)
    try:
        answer = True, act(*arguments)
    except Exception as error:
        traceback.print_exc()
        answer = False, f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
    connection.send(answer)


def kill_own_group() -> None:
    """Kill this process and its loader workers, as if the machine had died."""
    os.killpg(0, signal.SIGKILL)

"""Tells an error that a killed loader worker caused from every other error of a training run."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch._C import _error_if_any_worker_fails

from include.training.contract import ProcessKilled
from include.training.error_text import format_error

_KILLED = re.compile(r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly$)")
"""PyTorch's message if a loader worker was killed. An exception in a worker has a different message."""


@contextmanager
def recognize_killed_workers(patience: float = 5) -> Iterator[None]:
    """Raise ProcessKilled for an error of the block that is due to a killed loader worker.

    If a worker is killed while it hands over a batch, its connection breaks shortly before the kernel reports
    its death, so that PyTorch raises an error that does not name the worker. After such an error, wait up to
    `patience` seconds for the report.
    """
    try:
        yield
    except (ConnectionError, EOFError) as error:
        killed = _await_killed_worker(patience)
        if killed is None:
            raise
        raise ProcessKilled(_describe(killed)) from error
    except RuntimeError as error:
        if not _KILLED.match(str(error)):
            raise
        raise ProcessKilled(_describe(error)) from error


def _await_killed_worker(seconds: float) -> RuntimeError | None:
    """Return PyTorch's error about a killed worker, or None if there is none after so many seconds."""
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            _error_if_any_worker_fails()  # PyTorch's handler of SIGCHLD may also raise it in the pause
            time.sleep(0.05)
    except RuntimeError as error:
        return error if _KILLED.match(str(error)) else None
    return None


def _describe(error: RuntimeError) -> str:
    return format_error(error).rstrip(".")

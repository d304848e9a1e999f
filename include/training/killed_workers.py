"""Distinguishes errors that a killed loader worker caused from all other errors of a training run."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from torch._C import _error_if_any_worker_fails

from include.training.contract import ProcessKilled
from include.training.error_text import format_error, reports_killed_worker

_NOT_PINNED = "Pin memory thread exited unexpectedly"
"""PyTorch's message if a broken connection has ended the thread that prepares batches for a GPU."""


@contextmanager
def recognize_killed_workers(wait_seconds: float = 5) -> Iterator[None]:
    """Raise ProcessKilled if the block raises an error because a loader worker was killed.

    If a worker is killed while it hands over a batch, its connection breaks shortly before the kernel reports
    its death, so that PyTorch raises an error that does not name the worker. After such an error, wait up to
    `wait_seconds` seconds for PyTorch's error about the killed worker.
    """
    try:
        yield
    except Exception as error:
        is_broken = isinstance(error, (ConnectionError, EOFError)) or str(error) == _NOT_PINNED
        killed = _await_report(wait_seconds) if is_broken else error
        if killed is None or not reports_killed_worker(killed):
            raise
        raise ProcessKilled(format_error(killed).rstrip(".")) from error


def _await_report(seconds: float) -> RuntimeError | None:
    """Return PyTorch's error about a worker that has died, or None if there is none within `seconds`."""
    deadline = time.monotonic() + seconds
    try:
        while time.monotonic() < deadline:
            _error_if_any_worker_fails()  # PyTorch's SIGCHLD handler may also raise this in sleep()
            time.sleep(0.05)
    except RuntimeError as error:
        return error
    return None

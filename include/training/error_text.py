"""Formats errors of Ultralytics and torch for a task's log, and recognizes some of them."""

from __future__ import annotations

import re
import textwrap
import unicodedata

WRONG_INPUT = (ValueError, TypeError, LookupError, SyntaxError, FileNotFoundError, AssertionError)
"""Exceptions that Ultralytics raises for unsuitable data; other exceptions may be due to this machine."""

_WORKER_KILLED = re.compile(r"DataLoader worker \(pid.*\) (is killed by signal|exited unexpectedly$)")
"""PyTorch's message if a loader worker was killed. An exception in a worker has a different message."""


def format_error(error: BaseException) -> str:
    """Return the message of `error` as one line of at most 400 characters, without emoji."""
    text = remove_emoji(str(error) or type(error).__name__)
    return textwrap.shorten(text.replace(" .", "."), 400, placeholder=" …")


def remove_emoji(text: str) -> str:
    """Return `text` without emoji, with which Ultralytics begins many of its messages."""
    return "".join(c for c in text if unicodedata.category(c) != "So" and c != "\N{VARIATION SELECTOR-16}")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether GPU or host memory ran out.

    This reads the message, because torch and OpenCV share no exception class for this case.
    """
    message = str(error).lower()
    words = ("out of memory", "can't allocate memory", "cannot allocate memory", "insufficient memory")
    return isinstance(error, MemoryError) or any(word in message for word in words)


def reports_killed_worker(error: BaseException) -> bool:
    """Return whether this is PyTorch's report of a killed loader worker.

    PyTorch's SIGCHLD handler raises this error wherever the main thread happens to be.
    """
    return isinstance(error, RuntimeError) and _WORKER_KILLED.match(str(error)) is not None

"""Waits until another process or thread has done something."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(
    condition: Callable[[], object],
    what: str | Callable[[], str] = "true",
    seconds: float = 240,
    pause: float = 0.3,
    unless: Callable[[], object] = lambda: False,
) -> None:
    """Wait until the condition holds; after `seconds`, or once `unless` holds, fail.

    The message contains `what`: a description of the condition, or a function that returns one.
    Shorter pauses would take processor time from the servers that the test waits for.
    """
    start = time.monotonic()
    while not condition():
        waited = time.monotonic() - start
        if waited > seconds or unless():
            description = what if isinstance(what, str) else what()
            raise AssertionError(f"after {waited:.0f} s still not: {description}")
        time.sleep(pause)

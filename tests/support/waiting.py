"""Waits until another process or thread has done something."""

from __future__ import annotations

import time
from collections.abc import Callable


def until(
    condition: Callable[[], object], what: str = "true", seconds: float = 240, pause: float = 0.3
) -> None:
    """Wait until the condition holds; after `seconds`, fail with `what`, a description of the condition.

    Shorter pauses would take processor time from the servers that the test waits for.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"after {seconds} s still not: {what}"
        time.sleep(pause)

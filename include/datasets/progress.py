"""Logs the progress of long operations."""

from __future__ import annotations

import logging
import threading
import time
from typing import Literal

from include.limits import in_words

log = logging.getLogger(__name__)

_SECONDS_BETWEEN_LINES = 10.0

Unit = Literal["files", "images", "annotations", "entries", "bytes"]
"""What is counted; "bytes" are logged in KiB, MiB and so on."""


class ProgressLog:
    """Counts finished items, from any thread, and logs a line at most every ten seconds.

    `total` is None if it is unknown; for the unit "bytes", the total has to be known.
    """

    def __init__(self, doing: str, total: int | None, unit: Unit) -> None:
        self._doing, self._total, self._unit = doing, total, unit
        self._done = 0
        self._last_line = time.monotonic()
        self._lock = threading.Lock()

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more items or bytes as finished."""
        with self._lock:
            self._done += amount
            now = time.monotonic()
            if now - self._last_line < _SECONDS_BETWEEN_LINES:
                return
            self._last_line = now
            log.info("%s: %s", self._doing, self._in_words())

    def _in_words(self) -> str:
        if self._total is None:
            return f"{self._done:,} {self._unit}"
        share = 100 * self._done // max(self._total, 1)
        if self._unit == "bytes":
            return f"{in_words(self._done)} of {in_words(self._total)} ({share} %)"
        return f"{self._done:,} of {self._total:,} {self._unit} ({share} %)"

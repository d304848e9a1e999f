"""Warnings when the durable state lags too far behind training."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.checkpoints.checkpoint import name_position

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import Position

log = logging.getLogger(__name__)


class Lag:
    """Warns when S3 has accepted no state for more than `epochs` epochs or `seconds` seconds.

    It warns once, warns again whenever the lag has doubled, and reports when S3 accepts a state again. The
    lag is measured from the first upload that is tried after the last success. A state that is not due yet
    does not count. `durable` is the position of the state that is already in S3.
    """

    def __init__(self, epochs: int, seconds: float, durable: Position | None = None) -> None:
        self._epochs, self._seconds = epochs, seconds
        self._first: tuple[Position, float] | None = None
        self._factor = 1
        self._durable = durable

    def record_try(self, position: Position, now: float) -> None:
        """Record that the state at `position` is being stored."""
        if self._first is None:
            self._first = (position, now)

    def record_durable(self, position: Position) -> None:
        """Record that the state at `position` is durable."""
        if self._factor > 1:
            log.warning("S3 accepts uploads again: the state after %s is stored.", name_position(position))
        self._durable, self._first, self._factor = position, None, 1

    def look(self, newest: Position, now: float) -> None:
        """Warn if training, which is at `newest`, is too far ahead of the durable state."""
        if self._first is None:
            return
        epochs, seconds = newest[0] + 1 - self._first[0][0], now - self._first[1]
        if epochs <= self._epochs * self._factor and seconds <= self._seconds * self._factor:
            return
        while epochs > self._epochs * self._factor or seconds > self._seconds * self._factor:
            self._factor *= 2
        log.warning(
            "Training is at %s, but %s: no upload has succeeded for %.0f s. If this machine were lost now, "
            "all training that is not in S3 would have to be repeated.",
            name_position(newest),
            "S3 has no state yet"
            if self._durable is None
            else f"the newest state in S3 is from {name_position(self._durable)}",
            seconds,
        )

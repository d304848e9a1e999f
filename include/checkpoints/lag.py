"""How far what is durable is behind the training, said where it is too far."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from include.checkpoints.checkpoint import in_words

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import Position

log = logging.getLogger(__name__)


class Lag:
    """Warns when S3 has not taken a state for more than `epochs` epochs or `seconds` seconds.

    It warns once, again whenever that has doubled, and says when S3 has caught up. Counted is from the first
    try that has not succeeded since: what is not stored because it is not due yet is no lag. durable is how
    far the state is that is in S3 already.
    """

    def __init__(self, epochs: int, seconds: float, durable: Position | None = None) -> None:
        self._epochs, self._seconds = epochs, seconds
        self._first: tuple[Position, float] | None = None
        self._factor = 1
        self._durable = durable

    def trying(self, position: Position, now: float) -> None:
        """Note that the state is being stored."""
        if self._first is None:
            self._first = (position, now)

    def stored(self, position: Position) -> None:
        """Note that the state is durable."""
        if self._factor > 1:
            log.warning("S3 takes the state of the training again: %s is durable.", in_words(position))
        self._durable, self._first, self._factor = position, None, 1

    def look(self, newest: Position, now: float) -> None:
        """Warn if the training, whose newest state is that one, is too far ahead."""
        if self._first is None:
            return
        epochs, seconds = newest[0] + 1 - self._first[0][0], now - self._first[1]
        if epochs <= self._epochs * self._factor and seconds <= self._seconds * self._factor:
            return
        while epochs > self._epochs * self._factor or seconds > self._seconds * self._factor:
            self._factor *= 2
        log.warning(
            "The training is at %s, but %s: for %.0f s S3 has not taken a newer state. If this machine died "
            "now, what came since would have to be trained again.",
            in_words(newest),
            "nothing is durable in S3"
            if self._durable is None
            else f"only {in_words(self._durable)} is durable",
            seconds,
        )

"""How far what is durable is behind the training, said where it is too far."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class Lag:
    """Warns when S3 has not taken a state for more than `epochs` epochs or `seconds` seconds.

    It warns once, again whenever that has doubled, and says when S3 has caught up. Counted is from the first
    try that has not succeeded since: what is not stored because it is not due yet is no lag. durable is the
    epoch of the state that is in S3 already.
    """

    def __init__(self, epochs: int, seconds: float, durable: int | None = None) -> None:
        self._epochs, self._seconds = epochs, seconds
        self._first: tuple[int, float] | None = None
        self._factor = 1
        self._durable = durable

    def trying(self, epoch: int, now: float) -> None:
        """The state of `epoch` is being stored."""
        if self._first is None:
            self._first = (epoch, now)

    def stored(self, epoch: int) -> None:
        """The state of `epoch` is durable."""
        if self._factor > 1:
            log.warning("S3 takes the state of the training again: epoch %d is durable.", epoch + 1)
        self._durable, self._first, self._factor = epoch, None, 1

    def look(self, newest: int, now: float) -> None:
        """Warn if the training, which has finished epoch `newest`, is too far ahead."""
        if self._first is None:
            return
        epochs, seconds = newest + 1 - self._first[0], now - self._first[1]
        if epochs <= self._epochs * self._factor and seconds <= self._seconds * self._factor:
            return
        while epochs > self._epochs * self._factor or seconds > self._seconds * self._factor:
            self._factor *= 2
        log.warning(
            "Epoch %d is finished, but %s: for %.0f s S3 has not taken a newer state. If this machine died "
            "now, the epochs since would have to be trained again.",
            newest + 1,
            "none is durable in S3"
            if self._durable is None
            else f"only epoch {self._durable + 1} is durable",
            seconds,
        )

"""How long an attempt may take to finish a batch before it counts as hanging."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from statistics import median
from typing import TYPE_CHECKING, Self

from include.training.heartbeat import Phase

if TYPE_CHECKING:
    from collections.abc import Collection

_TRAINING, _ELSEWHERE = 300.0, 1800.0
_MEDIANS = 20.0

_ELSEWHERE_FACTOR = 6.0
_ELSEWHERE_AT_LEAST = 120.0
"""Smallest limit outside batches: a short `hang_timeout` is meant for batches, and start-up takes longer."""

_MARGIN = timedelta(minutes=10)


@dataclass(frozen=True)
class Limits:
    """The limits of one attempt."""

    training: float
    """Limit between two batches, in seconds."""
    elsewhere: float
    """Limit for everything else, in seconds: the time before the first batch (and, with `compile`, the first
    epoch), validation, saving and the final validation."""
    medians: float = 0
    """If this is not 0, both limits are at least this many times the median duration of a batch. Until a
    batch has been timed, `elsewhere` then applies between batches, too."""

    @classmethod
    def from_timeout(cls, hang_timeout: float | None) -> Self:
        """Return the limits for the parameter `hang_timeout`."""
        if hang_timeout is None:
            return cls(_TRAINING, _ELSEWHERE, _MEDIANS)
        return cls(hang_timeout, max(hang_timeout * _ELSEWHERE_FACTOR, _ELSEWHERE_AT_LEAST))

    def find_limit(self, phase: Phase, batches: Collection[float]) -> float:
        """Return the limit for this phase, given the seconds that recent batches took."""
        is_known = bool(batches) or not self.medians
        fixed = self.training if phase is Phase.TRAINING and is_known else self.elsewhere
        return max(fixed, self.medians * median(batches)) if batches else fixed

    @property
    def rank_timeout(self) -> timedelta:
        """How long ranks wait for each other before they give up.

        This is longer than `elsewhere`, so that the watchdog acts first, because it reports more. But while
        labels are read, or if batches take minutes, the watchdog may wait longer than the ranks.
        """
        return timedelta(seconds=self.elsewhere) + _MARGIN

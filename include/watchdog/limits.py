"""How long an attempt may go without a finished batch."""

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
"""An explicit limit that is short is meant for batches: what comes before the first one takes its time."""

_MARGIN = timedelta(minutes=10)


@dataclass(frozen=True)
class Limits:
    """In seconds: training holds between two batches, elsewhere for everything else.

    Elsewhere is what comes before the first batch (and, with `compile`, the first epoch), validation, saving
    and the final validation. Where medians is not 0, both are at least so many times the median batch, and as
    long as nobody knows that, elsewhere holds.
    """

    training: float
    elsewhere: float
    medians: float = 0

    @classmethod
    def of(cls, hang_timeout: float | None) -> Self:
        """Those that follow from the parameter."""
        if hang_timeout is None:
            return cls(_TRAINING, _ELSEWHERE, _MEDIANS)
        return cls(hang_timeout, max(hang_timeout * _ELSEWHERE_FACTOR, _ELSEWHERE_AT_LEAST))

    def limit(self, phase: Phase, batches: Collection[float]) -> float:
        """How long may pass in this phase, after batches that took so long."""
        is_known = bool(batches) or not self.medians
        fixed = self.training if phase is Phase.TRAINING and is_known else self.elsewhere
        return max(fixed, self.medians * median(batches)) if batches else fixed

    @property
    def patience(self) -> timedelta:
        """How long ranks wait for each other: the watchdog has noticed before, and says more."""
        return timedelta(seconds=self.elsewhere) + _MARGIN

"""The arithmetic of the tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Middle:
    """The median of some values, and an interval that holds that of all possible ones in 95 % of cases.

    low and high are None for fewer than six values: those are too few for such an interval.
    """

    median: float
    low: float | None
    high: float | None

    @classmethod
    def of(cls, values: Sequence[float]) -> Middle:
        """Return the median and its interval, which ends at two of the values.

        Their ranks come from the binomial distribution alone.
        """
        ordered, count = sorted(values), len(values)
        outside, below = 0, 0.0  # how many values lie outside at each end, and how probable fewer are
        while below + math.comb(count, outside) / 2**count <= 0.025:
            below += math.comb(count, outside) / 2**count
            outside += 1
        if not outside:
            return cls(statistics.median(ordered), None, None)
        return cls(statistics.median(ordered), ordered[outside - 1], ordered[-outside])

    def __format__(self, spec: str) -> str:
        """Such as `0.998 (0.991 to 1.004)`, each number in the format `spec`."""
        if self.low is None or self.high is None:
            return format(self.median, spec)
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """Each value of the one to the value of the other that was measured beside it."""
    return [one / other for one, other in zip(of, to, strict=True)]


@dataclass(frozen=True)
class Difference:
    """By how much the mean of one sample is above that of another, with its standard error (Welch's)."""

    mean: float
    error: float

    @classmethod
    def of(cls, one: Sequence[float], other: Sequence[float]) -> Difference:
        """Of two samples of at least two values each; they may vary unequally."""
        error = math.sqrt(statistics.variance(one) / len(one) + statistics.variance(other) / len(other))
        return cls(statistics.mean(one) - statistics.mean(other), error)

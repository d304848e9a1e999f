"""Medians, confidence intervals and differences for the tables."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class MedianInterval:
    """The median of a sample, and the 95 % CI of the true median."""

    median: float
    low: float | None
    """None for fewer than six values, which are too few for such an interval."""
    high: float | None
    """None for fewer than six values."""

    @classmethod
    def of(cls, values: Sequence[float]) -> MedianInterval:
        """Return the median and its interval, using only the order of the values.

        The ends of the interval are two of the values; their ranks follow from the binomial distribution.
        """
        ordered, count = sorted(values), len(values)
        # `outside` values lie beyond each end of the interval. `below` is the probability that fewer values
        # than `outside` are smaller than the true median.
        outside, below = 0, 0.0
        while below + math.comb(count, outside) / 2**count <= 0.025:
            below += math.comb(count, outside) / 2**count
            outside += 1
        if not outside:
            return cls(statistics.median(ordered), None, None)
        return cls(statistics.median(ordered), ordered[outside - 1], ordered[-outside])

    def __format__(self, spec: str) -> str:
        """Format as in `0.998 (0.991 to 1.004)`, each number in the format `spec`."""
        if self.low is None or self.high is None:
            return format(self.median, spec)
        return f"{self.median:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


def ratios(of: Sequence[float], to: Sequence[float]) -> list[float]:
    """Divide each value of one series by the value of the other that was measured in the same round."""
    return [one / other for one, other in zip(of, to, strict=True)]


def rotated(sides: Sequence[T], number: int) -> list[T]:
    """Return the sides in the order of a round, so that each round starts with a different side."""
    first = number % len(sides)
    return [*sides[first:], *sides[:first]]


@dataclass(frozen=True)
class Difference:
    """The difference between the means of two samples, with its standard error (Welch's)."""

    mean: float
    error: float

    @classmethod
    def of(cls, one: Sequence[float], other: Sequence[float]) -> Difference:
        """Compute the difference of two samples of at least two values each; their variances may differ."""
        error = math.sqrt(statistics.variance(one) / len(one) + statistics.variance(other) / len(other))
        return cls(statistics.mean(one) - statistics.mean(other), error)

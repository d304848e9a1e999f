"""The arithmetic behind the tables of the benchmarks."""

from __future__ import annotations

import math

import pytest

from benchmarks.figures import Difference, MedianInterval, ratios


def test_the_interval_of_a_median_is_the_one_in_the_tables_of_the_sign_test() -> None:
    """Ranks 2 and 9 of ten values, 6 and 15 of twenty, 14 and 27 of forty."""
    for count, low, high in ((6, 1, 6), (10, 2, 9), (20, 6, 15), (40, 14, 27)):
        middle = MedianInterval.of([float(rank) for rank in range(count, 0, -1)])
        assert (middle.median, middle.low, middle.high) == ((count + 1) / 2, low, high)


def test_five_values_are_too_few_for_an_interval() -> None:
    assert f"{MedianInterval.of([3.0, 1.0, 2.0, 5.0, 4.0]):.1f}" == "3.0"


def test_an_interval_is_written_behind_its_median() -> None:
    assert f"{MedianInterval.of([6.0, 1.0, 2.0, 3.0, 4.0, 5.0]):.1f}" == "3.5 (1.0 to 6.0)"


def test_ratios_are_of_what_was_measured_side_by_side() -> None:
    assert ratios([1.0, 9.0], [2.0, 3.0]) == [0.5, 3.0]
    with pytest.raises(ValueError, match="shorter"):
        ratios([1.0, 2.0], [1.0])


def test_a_difference_has_the_standard_error_of_both_means() -> None:
    difference = Difference.of([4.0, 6.0], [1.0, 2.0, 3.0])
    assert difference.mean == pytest.approx(3)
    assert difference.error == pytest.approx(math.sqrt(2 / 2 + 1 / 3))

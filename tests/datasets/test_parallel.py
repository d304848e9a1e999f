"""Work is done in threads, and results come in order, whether computed or already known."""

from __future__ import annotations

import threading
import time

from include.datasets.parallel import map_in_order


def test_results_come_in_order_whether_they_were_known_or_computed() -> None:
    computed: list[int] = []

    def compute(number: int) -> str:
        time.sleep(0.02 if number % 5 == 0 else 0)  # the following numbers finish first
        computed.append(number)
        return f"computed {number}"

    def recall(number: int) -> str | None:
        return f"known {number}" if number % 3 else None

    found = list(map_in_order(compute, range(40), threads=3, ahead=2, shortcut=recall))
    assert found == [f"{'known' if number % 3 else 'computed'} {number}" for number in range(40)]
    assert sorted(computed) == list(range(0, 40, 3))


def test_known_results_are_not_handed_to_a_thread() -> None:
    threads: set[threading.Thread] = set()

    def recall(number: int) -> int:
        threads.add(threading.current_thread())
        return number

    assert list(map_in_order(_never, range(100), shortcut=recall)) == list(range(100))
    assert threads == {threading.current_thread()}


def _never(_: int) -> int:
    raise AssertionError("everything is known")

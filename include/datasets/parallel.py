"""Runs many small pieces of work in parallel, with a queue of limited length."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

THREADS = min(32, (os.cpu_count() or 1) + 4)

T = TypeVar("T")
R = TypeVar("R")


def map_in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    threads: int = THREADS,
    ahead: int = 8,
    together: int = 1,
) -> Iterator[R]:
    """Yield function(item) for each item in order, computed in threads slightly ahead of the consumer.

    A thread takes `together` items at once, more than one where handing over an item takes longer than the
    item itself. ahead is how many times that per thread are computed or queued while an earlier one takes
    long. `ThreadPoolExecutor.map` would queue all items first: 1.7 GB for a million.
    """

    def compute(some: list[T]) -> list[R]:
        return [function(item) for item in some]

    remaining = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[list[R]]] = deque()
        try:
            while some := list(islice(remaining, together)):
                waiting.append(pool.submit(compute, some))
                if len(waiting) >= threads * ahead:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

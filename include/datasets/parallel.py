"""Runs many small pieces of work in parallel, with a queue of limited length."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

THREADS = min(32, (os.cpu_count() or 1) + 4)

T = TypeVar("T")
R = TypeVar("R")


def map_in_order(
    function: Callable[[T], R], items: Iterable[T], threads: int = THREADS, ahead: int = 8
) -> Iterator[R]:
    """Yield function(item) for each item in order, computed in threads slightly ahead of the consumer.

    ahead is how many items per thread are computed or queued while an earlier one takes long.
    `ThreadPoolExecutor.map` would queue all items first: 1.7 GB for a million.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= threads * ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

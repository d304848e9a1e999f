"""Runs many small pieces of work in parallel, with a queue of limited length."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Generic, TypeVar

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
    shortcut: Callable[[T], R | None] = lambda _: None,
) -> Iterator[R]:
    """Yield function(item) for each item in order, computed in threads slightly ahead of the consumer.

    `ahead` is the number of items per thread that are computed or queued while the consumer waits for a slow
    item. `ThreadPoolExecutor.map` would queue all items first: 1.7 GB for a million. `shortcut` returns the
    result of an item if the result is already known, otherwise None. It is called in the consumer's thread,
    because handing an item to another thread takes longer than the call.
    """
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[R] | _Known[R]] = deque()
        try:
            for item in items:
                known = shortcut(item)
                waiting.append(pool.submit(function, item) if known is None else _Known(known))
                if len(waiting) >= threads * ahead or (known is not None and waiting[0].done()):
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class _Known(Generic[R]):
    """A result that is known already, with those methods of a Future that `map_in_order` calls.

    Creating a Future for it, with its locks, would be slow.
    """

    __slots__ = ("_result",)

    def __init__(self, result: R) -> None:
        self._result = result

    def done(self) -> bool:
        return True

    def result(self) -> R:
        return self._result

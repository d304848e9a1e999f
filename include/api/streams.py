"""How many event streams a user may hold open: each costs this process a connection and a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from include.api.problems import Refused

MOST_STREAMS = 32
"""Of a user, in a process of the API server. A browser has one for each page that somebody looks at."""


class StreamLimit:
    """Counts the open streams of each user."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def stream_of(self, user: str) -> Iterator[None]:
        """Count one more for the length of the block. Raises Refused (429) where there are enough."""
        if self._open[user] >= MOST_STREAMS:
            raise Refused(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"You follow {MOST_STREAMS} trainings already, which is the limit: close some streams first",
                {"Retry-After": "10"},
            )
        self._open[user] += 1
        try:
            yield
        finally:
            self._open[user] -= 1
            if not self._open[user]:
                del self._open[user]

"""Limiting the event streams of each user: each stream costs this process a connection and a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from include.api.problems import ProblemError

MAX_STREAMS = 32
"""Limit for each user in each process of the API server. A browser opens one stream for each job page."""


class StreamLimit:
    """Counts the open streams of each user."""

    def __init__(self) -> None:
        self._open: Counter[str] = Counter()

    @contextmanager
    def count_stream(self, user: str) -> Iterator[None]:
        """Count one more stream for the duration of the block. Raises ProblemError (429) above the limit."""
        if self._open[user] >= MAX_STREAMS:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"You are already following {MAX_STREAMS} training runs, which is the limit: close some "
                "streams first",
                {"Retry-After": "10"},
            )
        self._open[user] += 1
        try:
            yield
        finally:
            self._open[user] -= 1
            if not self._open[user]:
                del self._open[user]

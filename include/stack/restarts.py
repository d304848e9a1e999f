"""Counts the restarts of the local stack's services, and decides when to give up."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from include.stack.private_files import write_private

MOST_RESTARTS = 8
"""Restarts in a row before a service is given up; with the pauses between them they take three minutes."""

LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class Restarts:
    """How often the supervisor restarted a service since `make up`, and when it last tried to (Unix time).

    in_row counts the restarts, failed ones included, since the service last ran steadily. failed is set if
    the last restart failed.
    """

    total: int = 0
    in_row: int = 0
    last: float = 0.0
    failed: bool = False

    @classmethod
    def of(cls, stored: dict[str, Any]) -> Restarts:
        """Return the restarts with these fields. Raises TypeError if they are not the fields of the class."""
        restarts = cls(**stored)
        if not all(isinstance(value, int | float) for value in stored.values()):
            raise TypeError(f"{stored} are not counts")
        return restarts

    def add_one(self, now: float) -> Restarts:
        """Return the count after another restart at `now`."""
        return Restarts(self.total + 1, self.in_row + 1, now)

    def add_failure(self, now: float) -> Restarts:
        """Return the count after a restart that failed at `now`."""
        return Restarts(self.total, self.in_row + 1, now, failed=True)

    @property
    def is_given_up(self) -> bool:
        """Whether the service will stay down if it dies again before it has run steadily."""
        return self.in_row >= MOST_RESTARTS

    def __str__(self) -> str:
        times, last = "once" if self.total == 1 else f"{self.total} times", datetime.fromtimestamp(self.last)
        if self.failed:
            return f"restarted {times}, could not be restarted at {last:%Y-%m-%d %H:%M:%S}"
        return f"restarted {times}, last at {last:%Y-%m-%d %H:%M:%S}"


def pause_before(in_row: int) -> float:
    """Return the seconds to wait after this many restarts in a row."""
    return min(2.0**in_row, LONGEST_PAUSE) if in_row else 0.0


class History:
    """The restarts of all services, in a file that outlives the supervisor and that `make status` reads."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> dict[str, Restarts]:
        """Return the restarts by service name; a service that was never restarted is missing.

        If the file is damaged, the counts start again.
        """
        try:
            stored = json.loads(self._file.read_text())
            return {name: Restarts.of(counts) for name, counts in stored.items()}
        except (FileNotFoundError, ValueError, TypeError, AttributeError):
            return {}

    def note(self, name: str, restarts: Restarts) -> None:
        """Store the restarts of one service."""
        history = self.read() | {name: restarts}
        write_private(self._file, json.dumps({service: asdict(count) for service, count in history.items()}))

    def forget(self) -> None:
        """Reset all counts, so that services that were given up are supervised again."""
        self._file.unlink(missing_ok=True)

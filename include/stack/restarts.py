"""Counts the restarts of the local stack's services, and decides when to give up."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from include.stack.private_files import write_private

MOST_RESTARTS = 8
"""Maximum number of consecutive restarts of a service; with the pauses between them, they take three
minutes."""

LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class Restarts:
    """How often the supervisor has restarted a service since `make up`."""

    total: int = 0
    """Number of restarts that succeeded."""
    in_row: int = 0
    """Number of restarts, failed ones included, since the service last ran steadily."""
    last: float = 0.0
    """When the supervisor last tried to restart the service (Unix time); 0 if it never has."""
    failed: bool = False
    """Whether the last restart failed."""

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
            return f"restarted {times}, last attempt failed at {last:%Y-%m-%d %H:%M:%S}"
        return f"restarted {times}, last at {last:%Y-%m-%d %H:%M:%S}"


def compute_pause(in_row: int) -> float:
    """Return the seconds to wait after this many consecutive restarts."""
    return min(2.0**in_row, LONGEST_PAUSE) if in_row else 0.0


_COUNTS = TypeAdapter(dict[str, Restarts])


class History:
    """The restarts of all services, in a file that outlives the supervisor and that `make status` reads."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> dict[str, Restarts]:
        """Return the restarts by service name; a service that was never restarted has no entry.

        If the file is damaged, the counts restart from 0.
        """
        try:
            return _COUNTS.validate_json(self._file.read_bytes(), strict=True)
        except (FileNotFoundError, ValidationError):
            return {}

    def note(self, name: str, restarts: Restarts) -> None:
        """Store the restarts of one service."""
        write_private(self._file, _COUNTS.dump_json(self.read() | {name: restarts}))

    def forget(self) -> None:
        """Reset all counts, so that the supervisor restarts even services that it had given up on."""
        self._file.unlink(missing_ok=True)

"""How often the services of the local stack were started again, and when that ends."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from include.stack.private_files import write_private

MOST_RESTARTS = 8
"""In a row: with the pauses between them three minutes."""

LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class Restarts:
    """How often one service was started again since `make up`, and when last (seconds since 1970).

    in_row counts those after which it died again soon.
    """

    total: int = 0
    in_row: int = 0
    last: float = 0.0

    def one_more(self, now: float) -> Restarts:
        """Those after another restart at `now`."""
        return Restarts(self.total + 1, self.in_row + 1, now)

    @property
    def is_given_up(self) -> bool:
        """Whether it is started again no more, once it has died."""
        return self.in_row >= MOST_RESTARTS

    def __str__(self) -> str:
        times = "once" if self.total == 1 else f"{self.total} times"
        return f"restarted {times}, last at {datetime.fromtimestamp(self.last):%Y-%m-%d %H:%M:%S}"


def pause_before(in_row: int) -> float:
    """Seconds between the restart with this number and the next one."""
    return min(2.0**in_row, LONGEST_PAUSE) if in_row else 0.0


class History:
    """The restarts of all services, in a file: they outlive the supervisor, and `make status` reads them."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def read(self) -> dict[str, Restarts]:
        """By the name of the service; one that never was restarted is not in it."""
        try:
            stored = json.loads(self._file.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {name: Restarts(**each) for name, each in stored.items()}

    def note(self, name: str, restarts: Restarts) -> None:
        """Store what is true of one service now."""
        history = self.read() | {name: restarts}
        write_private(self._file, json.dumps({name: asdict(each) for name, each in history.items()}))

    def forget(self) -> None:
        """Begin anew: what was given up is supervised again."""
        self._file.unlink(missing_ok=True)

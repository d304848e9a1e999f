"""What the kills have cost, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.scheduled_trainings import Kill

_HEAD = """\
| killed | stage | attempt | epoch | epochs repeated | goes on after | same weights in the end |
|---|---|---:|---:|---:|---:|---|
"""


@dataclass
class Report:
    """Rows of the table; whom is what was killed, in words."""

    path: Path
    rows: list[str] = field(default_factory=list)
    kills: int = 0

    def add(self, whom: str, kills: Sequence[Kill], *, same: bool) -> None:
        """Add the kills of one training, in their order."""
        self.kills += len(kills)
        for kill in kills:
            seconds = f"{kill.seconds:.1f} s" if kill.seconds is not None else ""
            at = str(kill.epoch + 1) if kill.epoch >= 0 else "none"
            cells = (whom, kill.stage, kill.attempt, at, kill.lost, seconds, "yes" if same else "**no**")
            self.rows.append(f"| {' | '.join(map(str, cells))} |\n")

    def write(self) -> str:
        """Write the file, and return what it says."""
        text = f"{self.kills} kills. Epochs are counted from 1.\n\n{_HEAD}{''.join(self.rows)}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(text, encoding="utf-8")
        return text

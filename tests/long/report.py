"""What the kills have cost, as a table for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.interrupted_attempts import PUBLISH_SECONDS, Interruption
from tests.scheduled_trainings import Kill

_INTERRUPTED = """
{number} interruptions at random batches of trainings that save their state every {seconds} s. Lost are
seconds of training: of all, and the most that one has cost; and what SIGTERM, and those with the disk kept,
have cost at most.

| training | interruptions | lost, all | lost, most | SIGTERM, most | disk kept, most | same weights |
|---|---:|---:|---:|---:|---:|---|
"""

_HEAD = """\
| killed | stage | attempt | epoch | repeated | starts after | has its state | first batch | same weights |
|---|---|---:|---:|---:|---:|---:|---:|---|
"""


@dataclass
class Report:
    """Rows of the table; whom is what was killed, in words."""

    path: Path
    rows: list[str] = field(default_factory=list)
    kills: int = 0
    interrupted: list[str] = field(default_factory=list)
    interruptions: int = 0

    def add_interruptions(self, whom: str, found: Sequence[Interruption], *, same: bool) -> None:
        """Add the interruptions of one training."""
        self.interruptions += len(found)
        groups = (
            found,
            [each for each in found if each.how == "terminate"],
            [each for each in found if each.disk == "kept"],
        )
        most = [f"{max((each.seconds for each in group), default=0):.2f} s" for group in groups]
        total = f"{sum(each.seconds for each in found):.2f} s"
        cells = (whom, len(found), total, *most, "yes" if same else "**no**")
        self.interrupted.append(f"| {' | '.join(map(str, cells))} |\n")

    def add(self, whom: str, kills: Sequence[Kill], *, same: bool) -> None:
        """Add the kills of one training, in their order."""
        self.kills += len(kills)
        for kill in kills:
            moments = (kill.started_after, kill.seconds, kill.trains_after)
            after = ["" if seconds is None else f"{seconds:.1f} s" for seconds in moments]
            at = str(kill.epoch + 1) if kill.epoch >= 0 else "none"
            cells = (whom, kill.stage, kill.attempt, at, kill.lost, *after, "yes" if same else "**no**")
            self.rows.append(f"| {' | '.join(map(str, cells))} |\n")

    def write(self) -> str:
        """Write the file, and return what it says."""
        text = f"{self.kills} kills. Epochs are counted from 1.\n\n{_HEAD}{''.join(self.rows)}"
        if self.interrupted:
            head = _INTERRUPTED.format(number=self.interruptions, seconds=PUBLISH_SECONDS)
            text += head + "".join(self.interrupted)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(text, encoding="utf-8")
        return text

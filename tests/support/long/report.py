"""Writes a table of the costs of kills and interruptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.interrupted_attempts import PUBLISH_SECONDS, Interruption
from tests.support.scheduled_trainings import Kill

_INTERRUPTED = """
{number} interruptions at random batches of training runs that save their state every {seconds} s. The losses
are seconds of training: in total, the maximum for one interruption, the maximum for a SIGTERM, and the
maximum if the disk was kept.

| training | interruptions | lost, all | lost, most | SIGTERM, most | disk kept, most | same weights |
|---|---:|---:|---:|---:|---:|---|
"""

_HEAD = """\
| killed | stage | attempt | epoch | repeated | starts after | state loaded | first batch | same weights |
|---|---|---:|---:|---:|---:|---:|---:|---|
"""


@dataclass
class Report:
    """The rows of the table; `whom` describes the killed process."""

    path: Path
    rows: list[str] = field(default_factory=list)
    kills: int = 0
    interrupted: list[str] = field(default_factory=list)
    interruptions: int = 0

    def add_interruptions(self, whom: str, found: Sequence[Interruption], *, same: bool) -> None:
        """Add the interruptions of one training run."""
        self.interruptions += len(found)
        groups = (
            found,
            [kill for kill in found if kill.how == "terminate"],
            [kill for kill in found if kill.disk == "kept"],
        )
        most = [f"{max((kill.seconds for kill in group), default=0):.2f} s" for group in groups]
        total = f"{sum(kill.seconds for kill in found):.2f} s"
        cells = (whom, len(found), total, *most, "yes" if same else "**no**")
        self.interrupted.append(f"| {' | '.join(map(str, cells))} |\n")

    def add(self, whom: str, kills: Sequence[Kill], *, same: bool) -> None:
        """Add the kills of one training run, in order."""
        self.kills += len(kills)
        for kill in kills:
            moments = (kill.started_after, kill.seconds, kill.trains_after)
            after = ["" if seconds is None else f"{seconds:.1f} s" for seconds in moments]
            at = str(kill.epoch + 1) if kill.epoch >= 0 else "none"
            cells = (whom, kill.stage, kill.attempt, at, kill.lost, *after, "yes" if same else "**no**")
            self.rows.append(f"| {' | '.join(map(str, cells))} |\n")

    def write(self) -> str:
        """Write the file and return its text."""
        text = f"{self.kills} kills. Epochs are counted from 1.\n\n{_HEAD}{''.join(self.rows)}"
        if self.interrupted:
            head = _INTERRUPTED.format(number=self.interruptions, seconds=PUBLISH_SECONDS)
            text += head + "".join(self.interrupted)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(text, encoding="utf-8")
        return text

"""Writes the outcome of each job to the file of --report, which `make soak` sets to docs/reliability.md.

A row stays until its case is repeated or no longer exists.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tests.support.faults.fault import Fault, Moment, Outcome

_HEAD = """\
| fault | moment | what the user saw | ended | resumed after | training lost | attempts | same weights | row |
|---|---|---|---|---:|---:|---:|---|---|
"""
_ROW = re.compile(r"^\|.*\| `([a-z0-9-]+)` \|$")
_LONGEST = 260


class Report:
    """The rows of the file at `path`, in the order of `cases`; without a path, nothing is written."""

    def __init__(self, path: str | None, cases: Sequence[str]) -> None:
        self._path = Path(path) if path else None
        self._cases = cases
        found = (_ROW.match(line) for line in self._text().splitlines())
        self._rows = {match[1]: match[0] for match in found if match}

    def add(self, case: str, fault: Fault, moment: Moment, outcome: Outcome) -> None:
        """Add a row, replacing the case's earlier one."""
        after = "" if outcome.recovered is None else f"{outcome.recovered:.1f} s"
        ended = outcome.status or "no row"
        if outcome.problems:
            ended = f"**broken**: {'; '.join(outcome.problems)}"
        cells = (
            fault.name, moment.name, _cut(outcome.sentence) or "nothing", _cut(ended), after,
            f"{outcome.lost:.2f} s", outcome.attempts, outcome.weights, f"`{case}`",
        )  # fmt: skip
        self._rows[case] = f"| {' | '.join(map(str, cells))} |"
        self.write()

    def write(self) -> None:
        """Write the file, keeping the text before the table."""
        if self._path is None:
            return
        before = self._text().partition(_HEAD.splitlines()[0])[0]
        rows = [self._rows[case] for case in self._cases if case in self._rows]
        self._path.write_text(f"{before}{_HEAD}" + "".join(f"{row}\n" for row in rows), encoding="utf-8")

    def _text(self) -> str:
        return self._path.read_text(encoding="utf-8") if self._path and self._path.exists() else ""


def _cut(text: str) -> str:
    text = text.replace("|", "\\|").replace("\n", " ").strip()
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"

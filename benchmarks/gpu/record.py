"""Append each result to a file immediately, as a line of JSON, so that an aborted run keeps its results."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FILE_NAME = "results.jsonl"


@dataclass
class Outcome:
    """The outcome of a step: its rows, and how it ended."""

    rows: list[Sequence[Any]] = field(default_factory=list)
    status: str | None = None
    """`done`, `skipped` or `failed`; None if the run was aborted."""
    reason: str = ""
    seconds: float = 0.0


@dataclass
class Run:
    """One run of the benchmark."""

    about: Mapping[str, Any] = field(default_factory=dict)
    """Command, date and device."""
    steps: dict[str, Outcome] = field(default_factory=dict)

    def outcome(self, step: str) -> Outcome:
        """Return the outcome of the step, empty if it has not run."""
        return self.steps.setdefault(step, Outcome())


@dataclass(frozen=True)
class Record:
    """The results file."""

    path: Path

    def begin(self, about: Mapping[str, Any]) -> None:
        """Start a run; everything appended later belongs to it."""
        self._append({"run": about})

    def add_row(self, step: str, row: Sequence[Any]) -> None:
        """Append a row of the step's table."""
        self._append({"step": step, "row": list(row)})

    def end_step(self, step: str, status: str, reason: str, seconds: float) -> None:
        """Append how the step ended."""
        self._append({"step": step, "status": status, "reason": reason, "seconds": round(seconds, 1)})

    def latest(self) -> Run:
        """Read the newest run."""
        run = Run()
        for line in self._lines():
            if "run" in line:
                run = Run(line["run"])
            elif "row" in line:
                run.outcome(line["step"]).rows.append(line["row"])
            else:
                outcome = run.outcome(line["step"])
                outcome.status, outcome.reason = line["status"], line["reason"]
                outcome.seconds = line["seconds"]
        return run

    def _append(self, line: Mapping[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def _lines(self) -> Iterator[dict[str, Any]]:
        for text in self.path.read_text(encoding="utf-8").splitlines():
            line: dict[str, Any] = json.loads(text)
            yield line

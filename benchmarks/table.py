"""A table as Markdown, with what it was measured on above it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil


@dataclass
class Table:
    """One result. `about` says in a sentence how it was measured."""

    title: str
    about: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def add(self, *cells: str) -> None:
        """Append a row."""
        self.rows.append(cells)

    def __str__(self) -> str:
        """As Markdown: the first column to the left, numbers to the right."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        return f"## {self.title}\n\n{self.about}\n\n{table}\n"


def machine() -> str:
    """Describe what the figures depend on, as lines of Markdown."""
    import torch
    import ultralytics

    from include.training.profile import numeric_profile

    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    profile = numeric_profile(device)
    memory = psutil.virtual_memory().total / 1e9
    versions = (
        f"torch {torch.__version__}, Ultralytics {ultralytics.__version__}, Python {sys.version.split()[0]}"
    )
    return (
        f"- {profile['device']}, {os.cpu_count()} cores, {memory:.0f} GB of memory; {versions}\n"
        f"- load before the measurement: {psutil.getloadavg()[0]:.1f} processes that want to run\n"
    )


def show(table: Table) -> None:
    """Print the table."""
    sys.stdout.write(f"{table}\n")
    sys.stdout.flush()


def progress(line: str) -> None:
    """Tell the person who waits what is being done."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()

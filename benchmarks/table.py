"""Format a table as Markdown, below a description of the measurement and the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil


@dataclass(frozen=True)
class Comparison:
    """Ratios that are compared with a target."""

    target: str
    """The target, in words."""
    ratios: Mapping[str, float]
    """The ratios, by name."""
    limit: float
    """The largest ratio that meets the target or, with `at_least`, the smallest."""
    at_least: bool = False

    def is_met(self, ratio: float) -> bool:
        """Return whether a ratio meets the target."""
        return ratio >= self.limit if self.at_least else ratio <= self.limit

    def __str__(self) -> str:
        """Say which ratios meet the target and which miss it."""
        met, missed = (
            ", ".join(
                f"{name} ({ratio:.2f})" for name, ratio in self.ratios.items() if self.is_met(ratio) is which
            )
            for which in (True, False)
        )
        if not missed:
            return f"the target is {self.target}, and it is met: {met}."
        also = f", and met by {met}" if met else ""
        return f"the target is {self.target}, and it is missed by {missed}{also}."


@dataclass
class Table:
    """The results of one measurement."""

    title: str
    about: str
    """How the results were measured."""
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    result: str = ""
    """The results compared with their targets, in words."""
    comparisons: list[Comparison] = field(default_factory=list)

    def compare(
        self, target: str, ratios: Mapping[str, float], limit: float, *, at_least: bool = False
    ) -> Comparison:
        """Add a comparison to this table's picture; return it, so that its text can be part of `result`."""
        self.comparisons.append(Comparison(target, ratios, limit, at_least))
        return self.comparisons[-1]

    def add(self, *cells: str) -> None:
        """Append a row."""
        self.rows.append(cells)

    def __str__(self) -> str:
        """Format as Markdown: the first column left-aligned, numbers right-aligned."""
        lines = [self.columns, ["---", *["---:"] * (len(self.columns) - 1)], *self.rows]
        table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
        result = f"\nResult: {self.result}\n" if self.result else ""
        return f"## {self.title}\n\n{self.about}\n\n{table}\n{result}"


def machine() -> str:
    """Describe the machine and its load, as lines of Markdown."""
    import torch
    import ultralytics

    from include.training.profile import read_numeric_profile

    device = torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    profile = read_numeric_profile(device)
    memory = psutil.virtual_memory().total / 1e9
    versions = (
        f"torch {torch.__version__}, Ultralytics {ultralytics.__version__}, Python {sys.version.split()[0]}"
    )
    return (
        f"- {profile['device']}, {os.cpu_count()} cores, {memory:.0f} GB of memory; {versions}\n"
        f"- load before the measurement: {psutil.getloadavg()[0]:.1f} runnable processes\n"
    )


def show(table: Table) -> None:
    """Print the table."""
    sys.stdout.write(f"{table}\n")
    sys.stdout.flush()


def progress(line: str) -> None:
    """Print progress to standard error."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()

"""What a migration is going to do, for a person to read before it is done."""

from __future__ import annotations

from dataclasses import dataclass

BASE = "base"


@dataclass(frozen=True)
class MigrationPlan:
    """A rehearsed migration: it was run and rolled back.

    current and target are revisions, or "base" for no schema of ours. revisions are those that run, in their
    order; statements the SQL they execute; problems what makes `apply` refuse.
    """

    current: str
    target: str
    revisions: tuple[str, ...]
    statements: tuple[str, ...]
    warnings: tuple[str, ...]
    problems: tuple[str, ...]

    @property
    def report(self) -> str:
        """The plan as text."""
        lines = [f"Schema: at {self.current}, to be at {self.target}."]
        if not self.revisions:
            return f"{lines[0]} Nothing to do."
        lines += [f"Revisions: {', '.join(self.revisions)}.", "SQL:"]
        lines += [f"{statement};" for statement in self.statements]
        lines += [f"Note: {warning}" for warning in self.warnings]
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        if self.problems:
            lines.append("apply is going to refuse until the problems are solved.")
        return "\n".join(lines)

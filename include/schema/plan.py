"""The plan of a migration, for a person to read before it is applied."""

from __future__ import annotations

from dataclasses import dataclass

BASE = "base"


@dataclass(frozen=True)
class MigrationPlan:
    """A rehearsed migration, which was run and rolled back.

    current and target are revisions, or "base" if our schema does not exist. revisions are those that run, in
    order; statements is the SQL that they execute; problems are the reasons for `apply` to refuse.
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
        lines = [f"Schema: at {self.current}, target {self.target}."]
        if not (self.revisions or self.statements or self.problems):
            lines[0] += " Nothing to do."
        if self.revisions:
            lines.append(f"Revisions: {', '.join(self.revisions)}.")
        if self.statements:
            lines += ["SQL:", *(f"{statement};" for statement in self.statements)]
        lines += [f"Note: {warning}" for warning in self.warnings]
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        if self.problems:
            lines.append("apply will refuse until these problems are fixed.")
        return "\n".join(lines)

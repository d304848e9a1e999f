"""Errors about the schema, phrased for the person who reads a task's log."""

from __future__ import annotations

from collections.abc import Sequence

from include.errors import FinalError, ProjectError, TransientError


class SchemaError(ProjectError):
    """The schema is not at the requested revision, or cannot be migrated to it."""


class SchemaBehind(SchemaError, FinalError):
    """The schema is not at the revision that this code was written for, or the role may not read it."""


class TargetUnknown(SchemaError, FinalError):
    """The revision to migrate to does not exist."""


class SchemaUnverified(SchemaError, FinalError):
    """The database does not contain what its revision promises."""


class SchemaBusy(SchemaError, TransientError):
    """Another session has held a lock for too long; a retry may succeed."""


class MigrationRefused(SchemaError, FinalError):
    """The migration would break or lose something.

    `reached` is the revision up to which the migration was applied; None if nothing was changed.
    """

    def __init__(self, problems: Sequence[str], reached: str | None = None) -> None:
        done = (
            "Nothing was changed"
            if reached is None
            else f"The schema was migrated to revision {reached}, but no further"
        )
        super().__init__(f"{done}, because:\n" + "\n".join(f"- {problem}" for problem in problems))
        self.problems = tuple(problems)
        """The reasons, each with its remedy."""

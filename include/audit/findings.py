"""Findings of an audit: a sentence about an object, row or folder, and its repair."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """Kinds of findings."""

    MISSING = "missing"
    """An object that a row refers to does not exist."""
    DAMAGED = "damaged"
    """An object differs from the row that refers to it."""
    STUCK = "stuck"
    """A row says that a job is active, but its run has ended."""
    ORPHAN = "orphan"
    """No row refers to an object."""
    ABANDONED_UPLOAD = "abandoned_upload"
    """An upload was never completed."""
    LEFTOVER = "leftover"
    """Files on this machine are no longer needed."""
    UNFENCED = "unfenced"
    """The S3 server does not honour conditions on writes."""


@dataclass(frozen=True)
class AuditFinding:
    """One row of `checkpoint_audits`."""

    kind: FindingKind
    """Column `finding`."""
    detail: str
    """A sentence that describes the problem, without a full stop at the end."""
    job_id: str | None = None
    """The job concerned; None if there is none, or it is unknown."""
    path: str | None = None
    """An s3:// URI or a local path."""
    size: int | None = None
    """Size in bytes; None if it is unknown."""
    repair: str | None = None
    """Description of the repair; None if nothing was repaired."""

    @property
    def is_loss(self) -> bool:
        """Whether an object that a row refers to is unusable and was not repaired."""
        return self.kind in {FindingKind.MISSING, FindingKind.DAMAGED} and self.repair is None

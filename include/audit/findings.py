"""Findings of an audit: a sentence about an object, row or folder, and its repair."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """Kinds of findings.

    MISSING and DAMAGED concern objects that a row names; STUCK, a row whose run has ended; UNFENCED, the S3
    server. The other kinds concern objects and files that nothing needs any longer.
    """

    MISSING = "missing"
    DAMAGED = "damaged"
    STUCK = "stuck"
    ORPHAN = "orphan"
    ABANDONED_UPLOAD = "abandoned_upload"
    LEFTOVER = "leftover"
    UNFENCED = "unfenced"


@dataclass(frozen=True)
class AuditFinding:
    """One row of `checkpoint_audits`.

    path is an s3:// URI or a local path; size is in bytes, None if unknown. repair describes the repair; None
    if there was none.
    """

    kind: FindingKind
    detail: str
    job_id: str | None = None
    path: str | None = None
    size: int | None = None
    repair: str | None = None

    @property
    def is_loss(self) -> bool:
        """Whether an object that a row names is unusable and was not repaired."""
        return self.kind in {FindingKind.MISSING, FindingKind.DAMAGED} and self.repair is None

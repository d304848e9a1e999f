"""What an audit finds: one sentence about one object, row or folder, and what was done about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class FindingKind(StrEnum):
    """MISSING and DAMAGED are of objects that a row names, UNFENCED of the server.

    The others are of what nothing names any more.
    """

    MISSING = "missing"
    DAMAGED = "damaged"
    STUCK = "stuck"
    ORPHAN = "orphan"
    ABANDONED_UPLOAD = "abandoned_upload"
    LEFTOVER = "leftover"
    UNFENCED = "unfenced"


@dataclass(frozen=True)
class Finding:
    """One row of `checkpoint_audits`.

    path is an s3:// URI or a local path; size in bytes, None where it is not known. repair says what was
    done, None if nothing was.
    """

    kind: FindingKind
    detail: str
    job_id: str | None = None
    path: str | None = None
    size: int | None = None
    repair: str | None = None

    @property
    def is_loss(self) -> bool:
        """Something that a row names cannot be used, and is not repaired."""
        return self.kind in {FindingKind.MISSING, FindingKind.DAMAGED} and self.repair is None

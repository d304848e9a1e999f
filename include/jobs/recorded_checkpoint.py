"""The recorded checkpoints of a job, in three columns each for best.pt and last.pt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import Checkpoint, CheckpointKind


class ColumnNames(NamedTuple):
    """Names of the columns that record one checkpoint."""

    path: str
    """Column with the URI of the file."""
    sha256: str
    """Column with the hash of the file."""
    size: str
    """Column with the size of the file."""


def name_columns(kind: CheckpointKind) -> ColumnNames:
    """Return the names of the columns that record best.pt or last.pt."""
    return ColumnNames(f"{kind}_checkpoint_path", f"{kind}_checkpoint_sha256", f"{kind}_checkpoint_size")


@dataclass(frozen=True)
class RecordedCheckpoint:
    """One checkpoint as a row records it."""

    path: str
    """An s3:// URI, or whatever a host application wrote."""
    sha256: str | None
    """SHA-256 of the whole file, in lower-case hex; None if a host application wrote the path."""
    size: int | None
    """Size in bytes."""

    @classmethod
    def of(cls, row: object, kind: CheckpointKind) -> Self | None:
        """Read the checkpoint from the attributes of `row`; None if it has no path."""
        path, sha256, size = (getattr(row, column) for column in name_columns(kind))
        return None if path is None else cls(path, sha256, size)


def build_checkpoint_columns(
    kind: CheckpointKind, checkpoint: Checkpoint | RecordedCheckpoint
) -> dict[str, str | int | None]:
    """Return the values of the columns that record `checkpoint`."""
    values = (checkpoint.path, checkpoint.sha256, checkpoint.size)
    return dict(zip(name_columns(kind), values, strict=True))

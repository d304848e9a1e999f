"""A checkpoint as it is recorded: three flat columns for each of the two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import Checkpoint, CheckpointKind


class ColumnNames(NamedTuple):
    """The columns of one checkpoint, by what they hold."""

    path: str
    sha256: str
    size: str


def column_names(kind: CheckpointKind) -> ColumnNames:
    """Return the names of the columns that record best.pt or last.pt."""
    return ColumnNames(f"{kind}_checkpoint_path", f"{kind}_checkpoint_sha256", f"{kind}_checkpoint_size")


@dataclass(frozen=True)
class RecordedCheckpoint:
    """What is recorded of one checkpoint."""

    path: str
    """An s3:// URI, or whatever a platform wrote on its own."""
    sha256: str | None
    """Of the whole file, in lower-case hex; None where a platform wrote the path."""
    size: int | None
    """In bytes."""

    @classmethod
    def of(cls, row: object, kind: CheckpointKind) -> Self | None:
        """Return what the columns say, which are attributes of `row`; None where there is no path."""
        path, sha256, size = (getattr(row, column) for column in column_names(kind))
        return None if path is None else cls(path, sha256, size)


def checkpoint_columns(
    kind: CheckpointKind, checkpoint: Checkpoint | RecordedCheckpoint
) -> dict[str, str | int | None]:
    """Return the values of the columns that record `checkpoint`."""
    values = (checkpoint.path, checkpoint.sha256, checkpoint.size)
    return dict(zip(column_names(kind), values, strict=True))

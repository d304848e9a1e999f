"""A checkpoint file, identified by its content."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

CheckpointKind = Literal["best", "last"]
CHECKPOINT_KINDS: tuple[CheckpointKind, ...] = get_args(CheckpointKind)

Position = tuple[int, int]
"""Position of a training run: its last finished epoch, from 0, and the number of batches trained after it.
The epoch is -1 before the first one has ended, as in Ultralytics' files, so that positions can be
compared."""


def hash_file(path: Path) -> str:
    """Return the SHA-256 of the whole file, in lower-case hex. Raises FileNotFoundError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint file, identified by its content."""

    path: str
    """A local path or an s3:// URI."""
    sha256: str
    """Hash of the whole file, in lower-case hex."""
    size: int
    """Size in bytes."""
    epoch: int
    """Last finished epoch in the file, counted from 0 as in Ultralytics; -1 before the first one."""
    batch: int = 0
    """Number of batches trained after that epoch; 0 for a state at an epoch's end."""

    @property
    def position(self) -> Position:
        """Position of the training run in this state; a newer state of the same run has a larger position."""
        return self.epoch, self.batch

    @classmethod
    def of_file(cls, path: Path, epoch: int, batch: int = 0) -> Checkpoint:
        """Identify the file at `path`, reading it once. Raises FileNotFoundError if it does not exist."""
        digest = hash_file(path)
        return cls(path=str(path), sha256=digest, size=path.stat().st_size, epoch=epoch, batch=batch)


def name_position(position: Position) -> str:
    """Name a position, counted from 1: "epoch 3", or "batch 120 of epoch 4"."""
    epoch, batch = position
    return f"batch {batch} of epoch {epoch + 2}" if batch else f"epoch {epoch + 1}"

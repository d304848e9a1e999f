"""Snapshots of a training run, and the limits for publishing them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import CheckpointKind, Position


@dataclass(frozen=True)
class Snapshot:
    """Private copies of a state's files."""

    epoch: int
    """Last finished epoch in the state, from 0; -1 before the first."""
    last: Path
    """Path of the copy of last.pt."""
    best: Path | None = None
    """Path of the copy of best.pt if this state improved it, otherwise None."""
    batch: int = 0
    """Number of batches trained after `epoch`; 0 at an epoch's end."""

    @property
    def position(self) -> Position:
        """Position of the training run in this state."""
        return self.epoch, self.batch


@dataclass(frozen=True)
class PublishLimits:
    """How often states are published, and when uploads are aborted or retried."""

    every_epochs: int = 1
    """Interval, in epochs, at which the state at the end of an epoch is stored. A state within an epoch is
    stored whenever the previous upload has finished."""
    stalled_seconds: float = 60.0
    """An upload is aborted if, for this many seconds, fewer than `least_bytes` are sent and no response
    arrives."""
    least_bytes: int = 1024**2
    """Smallest progress in bytes that keeps an upload from being aborted."""
    first_pause: float = 1.0
    """Seconds to wait after a failure; doubled after each further failure."""
    longest_pause: float = 60.0
    """Maximum number of seconds to wait after a failure."""
    lag_epochs: int = 5
    """Number of epochs that the durable state may lag behind training before a warning is logged."""
    lag_seconds: float = 300.0
    """Number of seconds that the durable state may lag behind training before a warning is logged."""


@dataclass(frozen=True)
class PendingSnapshots:
    """The snapshots that wait for the next upload, or that are being uploaded."""

    last: Snapshot
    """The newest state, whose last.pt is stored."""
    best: Snapshot | None
    """The newest state that improved best.pt: `last` itself, an older state, or none."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> PendingSnapshots:
        return cls(snapshot, snapshot if snapshot.best else None)

    def replace_older(self, older: PendingSnapshots | None) -> PendingSnapshots:
        """Return these newer states; if they have no `best`, it is taken from `older`."""
        return self if older is None or self.best else PendingSnapshots(self.last, older.best)

    @property
    def files(self) -> set[Path]:
        return {path for path, *_ in self.uploads}

    @property
    def uploads(self) -> list[tuple[Path, CheckpointKind, Position]]:
        """The files to store, in this order, because last.pt refers to best.pt."""
        last: tuple[Path, CheckpointKind, Position] = self.last.last, "last", self.last.position
        if self.best is None or self.best.best is None:
            return [last]
        return [(self.best.best, "best", self.best.position), last]

"""Snapshots of a training run, and the limits for publishing them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import Position


@dataclass(frozen=True)
class Snapshot:
    """A private, complete copy of last.pt."""

    epoch: int
    """Last finished epoch in it, from 0."""
    last: Path
    """Path of the copy."""
    is_best: bool
    """Whether the job's best.pt is created from it, because no earlier epoch was better."""
    batch: int = 0
    """Number of batches after `epoch` in it; 0 at an epoch's end."""

    @property
    def position(self) -> Position:
        """Position of the training in this state."""
        return self.epoch, self.batch


@dataclass(frozen=True)
class PublishLimits:
    """Frequency, time-outs and retries of publishing."""

    every_epochs: int = 1
    """Number of epochs between stored states at an epoch's end. A state within an epoch is stored whenever
    the previous upload leaves time for it."""
    stalled_seconds: float = 60.0
    """An upload may continue as long as each such period brings `least_bytes` more, or a response."""
    least_bytes: int = 1024**2
    """Smallest progress that counts, in bytes."""
    first_pause: float = 1.0
    """Seconds to wait after a failure; doubled after each further one."""
    longest_pause: float = 60.0
    """Maximum number of seconds to wait after a failure."""
    lag_epochs: int = 5
    """Number of epochs that the durable state may lag behind before a warning."""
    lag_seconds: float = 300.0
    """Number of seconds that the durable state may lag behind before a warning."""


@dataclass(frozen=True)
class Work:
    """States to store: the newest one, and the newest best one (the same, an older one, or none)."""

    last: Snapshot
    best: Snapshot | None

    @classmethod
    def of(cls, snapshot: Snapshot) -> Work:
        return cls(snapshot, snapshot if snapshot.is_best else None)

    def instead_of(self, older: Work | None) -> Work:
        """Return this newer work, with the best state of the older one if it has none itself."""
        return self if older is None or self.best else Work(self.last, older.best)

    @property
    def files(self) -> set[Path]:
        return {snapshot.last for snapshot in (self.last, self.best) if snapshot}

"""What is published of a training, and how often and how patiently."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import Position


@dataclass(frozen=True)
class Snapshot:
    """A private copy of last.pt, whole."""

    epoch: int
    """Last finished epoch in it, from 0."""
    last: Path
    """Path of the copy."""
    is_best: bool
    """Whether the job's best.pt is to be made of it: no epoch before was better."""
    batch: int = 0
    """Number of batches after `epoch` that are in it; 0 at an epoch's end."""

    @property
    def position(self) -> Position:
        """How far the training was."""
        return self.epoch, self.batch


@dataclass(frozen=True)
class PublishLimits:
    """What durability may cost, and how patient it is."""

    every_epochs: int = 1
    """Of the states at an epoch's end, one in so many is stored. A state within an epoch is stored whenever
    the upload before it leaves time for that."""
    stalled_seconds: float = 60.0
    """An upload may go on while each such period brings `least_bytes` more, or an answer."""
    least_bytes: int = 1024**2
    """Progress that counts as such, in bytes."""
    first_pause: float = 1.0
    """Seconds to wait after a failure; twice as long after each further one."""
    longest_pause: float = 60.0
    """Most seconds to wait after a failure."""
    lag_epochs: int = 5
    """Number of epochs that durability may lag behind before the log warns."""
    lag_seconds: float = 300.0
    """Seconds that durability may lag behind before the log warns."""


@dataclass(frozen=True)
class Work:
    """The newest state, and the newest best one that is not stored yet (the same, an older one, or none)."""

    last: Snapshot
    best: Snapshot | None

    @classmethod
    def of(cls, snapshot: Snapshot) -> Work:
        return cls(snapshot, snapshot if snapshot.is_best else None)

    def instead_of(self, older: Work | None) -> Work:
        """Return this newer work, with the best state of the older one where it has none itself."""
        return self if older is None or self.best else Work(self.last, older.best)

    @property
    def files(self) -> set[Path]:
        return {snapshot.last for snapshot in (self.last, self.best) if snapshot}

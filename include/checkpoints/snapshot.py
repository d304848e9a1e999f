"""What is published of a training, and how often and how patiently."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from include.checkpoints.checkpoint import Position


@dataclass(frozen=True)
class Snapshot:
    """A private copy of last.pt, whole, as it was at the end of `epoch` (from 0), or `batch` batches later.

    is_best says that no epoch before was better, so that the job's best.pt is to be made of it.
    """

    epoch: int
    last: Path
    is_best: bool
    batch: int = 0

    @property
    def position(self) -> Position:
        """How far the training was."""
        return self.epoch, self.batch


@dataclass(frozen=True)
class PublishLimits:
    """What durability may cost, and how patient it is.

    Of the states at an epoch's end every `every_epochs`-th is stored, of those within epochs each that the
    upload before leaves time for. One upload may go on while it makes progress: `least_bytes` more, or an
    answer, every `stalled_seconds`. After a failure the next try waits `first_pause` seconds, twice as long
    after each further one, up to `longest_pause`. The log warns where durability lags by more than
    `lag_epochs` or `lag_seconds`.
    """

    every_epochs: int = 1
    stalled_seconds: float = 60.0
    least_bytes: int = 1024**2
    first_pause: float = 1.0
    longest_pause: float = 60.0
    lag_epochs: int = 5
    lag_seconds: float = 300.0


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

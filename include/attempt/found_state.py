"""A state that an earlier attempt saved, and that was found on this machine or in S3."""

from __future__ import annotations

import errno
import zipfile
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from include.checkpoints.checkpoint import Checkpoint
from include.datasets.caching.archive import BROKEN
from include.training.contract import UnreadableCheckpoint
from include.training.loading import count_batches_into_epoch

if TYPE_CHECKING:
    from pathlib import Path

    from include.checkpoints.checkpoint import Position
    from include.checkpoints.stored import StoredCheckpoint
    from include.jobs.attempts import FinishedEpoch


@dataclass(frozen=True)
class FoundState:
    """A complete state of this training run."""

    path: Path
    """The local file with the state."""
    state: dict[str, Any]
    """The content of the file at `path`."""
    where: str
    """Where the state was found: a local path or an s3:// URI."""
    replaces: Checkpoint | None = None
    """The undamaged last.pt that the state will replace in S3; None if there is none."""

    @property
    def position(self) -> Position:
        """Position of the training run in this state."""
        return int(self.state["epoch"]), count_batches_into_epoch(self.state)

    @property
    def is_newer(self) -> bool:
        """Whether S3 has no undamaged last.pt, or only an older one."""
        return self.replaces is None or self.position > self.replaces.position

    def is_same_as(self, stored: StoredCheckpoint) -> bool:
        """Return whether the stored object has the same bytes; hash the file only if the positions agree."""
        found = stored.checkpoint
        if found is None or found.position != self.position:
            return False
        return stored.is_the_same_as(Checkpoint.of_file(self.path, *self.position))

    def list_finished_epochs(self) -> tuple[FinishedEpoch, ...]:
        """Return the epochs that this training run has finished, excluding those of its parent."""
        columns = dict(self.state.get("train_results") or {})
        epochs, times = columns.pop("epoch", []), columns.pop("time", [])
        seconds = [later - before for before, later in pairwise([0.0, *times])]
        rows = zip(*columns.values(), strict=True) if columns else [()] * len(epochs)
        return tuple(
            # Each attempt measures time with a different clock, so a difference may be negative.
            (int(epoch) - 1, dict(zip(columns, row, strict=True)), max(took, 0.0))
            for epoch, row, took in zip(epochs, rows, seconds, strict=True)
        )


def require_whole(path: Path) -> None:
    """Raise UnreadableCheckpoint if the file is damaged. Torch would not notice: it ignores the checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (*BROKEN, OSError) as error:
        # EINVAL: the list of the file's entries would start before its beginning.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise UnreadableCheckpoint(f"{path} is damaged: {error}") from error
    if damaged:
        raise UnreadableCheckpoint(f"{path} is damaged: the checksum of its entry {damaged} is wrong")

"""Heartbeats: how a training process shows a watchdog in another process that it is alive.

Each training process has a file of a few bytes, `{pid}.beat`, and writes into it after each batch. The file
is mapped into memory, so that a beat costs a microsecond, needs no thread, and can be read after a SIGKILL.
Importing this module needs only the standard library: the watchdog imports it, too, and runs without torch.
"""

from __future__ import annotations

import logging
import mmap
import os
import struct
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

from include.training.stacks import enable_stack_dumps

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.training.exact import ExactMixin

log = logging.getLogger(__name__)

_FORMAT = struct.Struct("=qqqqq")
"""Rank, phase, beats, epoch and batch."""


class Phase(IntEnum):
    """The phase of a training process, which decides how long it may go without a beat."""

    OVER = 0
    """The process no longer trains, and no beats are expected."""
    STARTING = 1
    """Up to the end of the first batch; with `compile`, up to the end of the first epoch."""
    TRAINING = 2
    """Within an epoch, once its first batch has begun."""
    BETWEEN = 3
    """From an epoch's last batch to the next epoch's first batch, or to the end: validation, saving."""


@dataclass(frozen=True)
class Heartbeats:
    """Settings for the heartbeats of a training run."""

    folder: Path
    """Folder for the heartbeat files."""
    rank_timeout: timedelta
    """How long ranks wait for each other before they fail. It is longer than the watchdog's limit outside
    batches, so that the watchdog acts first: it also reports the reason."""


@dataclass(frozen=True)
class Beat:
    """The latest heartbeat of a process."""

    pid: int
    """Process ID of the training process."""
    rank: int
    """-1 if one process trains alone."""
    phase: Phase
    """What the process is doing."""
    beats: int
    """Increases with each trained or validated batch and, before the first batch, whenever a progress bar
    moves (reading labels, caching images)."""
    epoch: int
    """Counted from 0; -1 before the first epoch."""
    batch: int
    """Number of finished batches of the epoch."""


def read_beats(folder: Path) -> list[Beat]:
    """Read the latest beat of each process in the folder, sorted by rank."""
    beats = []
    for path in folder.glob("*.beat"):
        # The folder may be removed at any time, and a file is empty until its first bytes are written.
        with suppress(OSError, struct.error):
            rank, phase, *position = _FORMAT.unpack(path.read_bytes())
            beats.append(Beat(int(path.stem), rank, Phase(phase), *position))
    return sorted(beats, key=lambda beat: beat.rank)


class HeartbeatWriter:
    """Writes this process's beats, starting with the phase STARTING."""

    def __init__(self, file: mmap.mmap, rank: int) -> None:
        self._file, self._rank = file, rank
        self._phase, self._beats, self._epoch, self._batch = Phase.STARTING, 0, -1, 0
        self._compiles = False
        self.beat()

    def follow(self, trainer: ExactMixin) -> None:
        """Write a beat for each batch that the trainer finishes."""
        self._compiles = bool(trainer.args.compile)
        for event, callback in {
            "on_train_epoch_start": self._begin_epoch,
            "on_train_batch_start": self._begin_batch,
            "on_train_batch_end": self._end_batch,
            "on_train_epoch_end": self._end_epoch,
            "on_val_batch_end": self.beat,
            "on_fit_epoch_end": self.beat,
        }.items():
            trainer.add_callback(event, callback)

    def beat(self, _: object = None) -> None:
        """Write a beat."""
        self._beats += 1
        self._show()

    def beat_at_start(self) -> None:
        """Write a beat if the phase is still STARTING."""
        if self._phase is Phase.STARTING:
            self.beat()

    def finish(self) -> None:
        """Announce that no more beats will follow."""
        self._phase = Phase.OVER
        self._show()

    def _begin_epoch(self, trainer: ExactMixin) -> None:
        self._epoch, self._batch = trainer.epoch, trainer.train_loader.first_batch
        self.beat()

    def _begin_batch(self, _: object) -> None:
        if self._phase is Phase.BETWEEN:
            self._phase = Phase.TRAINING
            self._show()

    def _end_batch(self, _: object) -> None:
        if not self._compiles:
            self._phase = Phase.TRAINING
        self._batch += 1
        self.beat()

    def _end_epoch(self, _: object) -> None:
        self._phase, self._compiles = Phase.BETWEEN, False
        self.beat()

    def _show(self) -> None:
        _FORMAT.pack_into(self._file, 0, self._rank, self._phase, self._beats, self._epoch, self._batch)


@contextmanager
def send_heartbeats(heartbeats: Heartbeats | None) -> Iterator[HeartbeatWriter | None]:
    """Write heartbeats until the block ends; write none if `heartbeats` is None or the disk is full."""
    if heartbeats is None:
        yield None
        return
    enable_stack_dumps(heartbeats.folder)
    path = heartbeats.folder / f"{os.getpid()}.beat"
    try:
        path.write_bytes(bytes(_FORMAT.size))  # allocated now, so that a beat cannot crash on a full disk
    except OSError as error:
        log.warning(
            "%s could not be written (%s): a hang of this training run will not be detected.", path, error
        )
        yield None
        return
    with path.open("r+b") as file, mmap.mmap(file.fileno(), _FORMAT.size) as mapped:
        heart = HeartbeatWriter(mapped, int(os.environ.get("RANK", "-1")))
        try:
            with _beat_with_progress_bars(heart):
                yield heart
        finally:
            heart.finish()


@contextmanager
def _beat_with_progress_bars(heart: HeartbeatWriter) -> Iterator[None]:
    """Write a beat whenever a progress bar moves during STARTING, because caching images may take an hour."""
    from ultralytics.utils.tqdm import TQDM

    update = TQDM.update

    def update_and_beat(bar: TQDM, n: int = 1) -> None:
        heart.beat_at_start()
        update(bar, n)

    TQDM.update = update_and_beat
    try:
        yield
    finally:
        TQDM.update = update

"""How a training process shows that it lives, to a watchdog in another process.

Each process that trains has a file of some bytes, `{pid}.beat`, and writes into it after each batch. It is
mapped into memory, so that a beat costs a microsecond, needs no thread, and can be read after a SIGKILL.
Standard library only: the watchdog reads with the same code, without torch.
"""

from __future__ import annotations

import faulthandler
import logging
import mmap
import os
import signal
import struct
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)

STACKS_SIGNAL = signal.SIGUSR1
"""At it, each process of a training writes the stacks of its threads, whether or not it can run Python."""

_FORMAT = struct.Struct("=qqqqq")
"""Rank, phase, beats, epoch and batch."""


class Phase(IntEnum):
    """What a process is doing, as far as it matters for how long a batch may take."""

    OVER = 0
    """Not training any more. Nothing is expected of it."""
    STARTING = 1
    """Up to the first batch; with `compile`, up to the end of the first epoch."""
    TRAINING = 2
    BETWEEN = 3
    """From the last batch of an epoch to the first one of the next: validation, saving, final validation."""


@dataclass(frozen=True)
class Heartbeats:
    """Where and how the processes of a training show that they live.

    folder takes their files; patience is how long ranks wait for each other, after which they fail by
    themselves: longer than a watchdog waits, which then says why.
    """

    folder: Path
    patience: timedelta


@dataclass(frozen=True)
class Beat:
    """What a process has shown of itself.

    beats grows with each batch, trained or validated, and before the first one with all that moves a progress
    bar (reading labels, caching images). rank is -1 where one process trains alone. epoch counts from 0, and
    is -1 before the first one; batch counts its finished batches.
    """

    pid: int
    rank: int
    phase: Phase
    beats: int
    epoch: int
    batch: int

    @classmethod
    def read(cls, path: Path) -> Beat | None:
        """Read a file; None for one that has just been made."""
        content = path.read_bytes()
        if len(content) < _FORMAT.size:
            return None
        rank, phase, beats, epoch, batch = _FORMAT.unpack_from(content)
        return cls(int(path.stem), rank, Phase(phase), beats, epoch, batch)


def read_beats(folder: Path) -> list[Beat]:
    """Read what each process in the folder shows, in the order of their ranks."""
    beats = []
    for path in folder.glob("*.beat"):
        with suppress(OSError):  # somebody removes the folder
            beats.append(Beat.read(path))
    return sorted((beat for beat in beats if beat), key=lambda beat: beat.rank)


class Followed(Protocol):
    """What is needed of a trainer."""

    args: Any
    epoch: int
    train_loader: Any

    def add_callback(self, event: str, callback: Callable[[Any], None]) -> None:
        """Have `callback` called at each `event`."""


class Heart:
    """Writes this process's beats. It begins with the phase STARTING."""

    def __init__(self, file: mmap.mmap, rank: int) -> None:
        self._file, self._rank = file, rank
        self._phase, self._beats, self._epoch, self._batch = Phase.STARTING, 0, -1, 0
        self._compiles = False
        self.beat()

    def follow(self, trainer: Followed) -> None:
        """Beat at each batch of the trainer from now on."""
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
        """Show that something was finished."""
        self._beats += 1
        self._show()

    def prepare(self) -> None:
        """Show that something was done before the first batch."""
        if self._phase is Phase.STARTING:
            self.beat()

    def over(self) -> None:
        """Say that nothing is to be expected any more."""
        self._phase = Phase.OVER
        self._show()

    def _begin_epoch(self, trainer: Followed) -> None:
        self._epoch, self._batch = trainer.epoch, trainer.train_loader.first_batch
        self.beat()

    def _begin_batch(self, _: Followed) -> None:
        if self._phase is Phase.BETWEEN:
            self._phase = Phase.TRAINING
            self._show()

    def _end_batch(self, _: Followed) -> None:
        if not self._compiles:
            self._phase = Phase.TRAINING
        self._batch += 1
        self.beat()

    def _end_epoch(self, _: Followed) -> None:
        self._phase, self._compiles = Phase.BETWEEN, False
        self.beat()

    def _show(self) -> None:
        _FORMAT.pack_into(self._file, 0, self._rank, self._phase, self._beats, self._epoch, self._batch)


@contextmanager
def beating(heartbeats: Heartbeats | None) -> Iterator[Heart | None]:
    """Let this process show that it lives until the block ends; without a folder, or a disk, do nothing."""
    if heartbeats is None:
        yield None
        return
    write_stacks_when_asked(heartbeats.folder)
    path = heartbeats.folder / f"{os.getpid()}.beat"
    try:
        path.write_bytes(bytes(_FORMAT.size))  # no hole: on a full disk a beat into it would be the end
    except OSError as error:
        log.warning("%s could not be written (%s): nobody notices where this training hangs.", path, error)
        yield None
        return
    with path.open("r+b") as file, mmap.mmap(file.fileno(), _FORMAT.size) as mapped:
        heart = Heart(mapped, int(os.environ.get("RANK", "-1")))
        try:
            with _progress_bars_move(heart):
                yield heart
        finally:
            heart.over()


@contextmanager
def _progress_bars_move(heart: Heart) -> Iterator[None]:
    """Over a slow network images may be cached for an hour, in which Ultralytics calls no callback."""
    from ultralytics.utils.tqdm import TQDM

    update = TQDM.update

    def update_and_beat(bar: TQDM, n: int = 1) -> None:
        heart.prepare()
        update(bar, n)

    TQDM.update = update_and_beat
    try:
        yield
    finally:
        TQDM.update = update


def stacks_file(folder: Path, pid: int) -> Path:
    """Where a process writes its stacks."""
    return folder / f"{pid}.stacks"


class _Stacks:
    """Where this process writes its stacks, and those that it forks; None: nowhere."""

    folder: Path | None = None
    inherited = False


def write_stacks_when_asked(folder: Path) -> None:
    """Write this process's stacks into `folder` at STACKS_SIGNAL, and those of what it forks from now on."""
    if not _Stacks.inherited:
        os.register_at_fork(after_in_child=_register)
        _Stacks.inherited = True
    _Stacks.folder = folder
    _register()


def write_no_stacks() -> None:
    """Do at STACKS_SIGNAL what was done before."""
    _Stacks.folder = None
    faulthandler.unregister(STACKS_SIGNAL)


def _register() -> None:
    """Loader workers are forked: each gets a file of its own, or their stacks could not be told apart."""
    if _Stacks.folder is not None:
        with suppress(OSError):  # a disk that is full is no reason not to train
            file = stacks_file(_Stacks.folder, os.getpid()).open("wb", buffering=0)
            faulthandler.register(STACKS_SIGNAL, file=file, all_threads=True, chain=False)

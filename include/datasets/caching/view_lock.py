"""Locks one view per training run, so that two runs on a machine never write into the same folder.

Ultralytics writes caches next to images and labels, and does not expect other processes to do the same: it
removes label caches and .npy files that another process is still writing. So a run locks the view that it
uses, and if it finds a view locked, it uses another one. Later runs reuse views together with their caches.

The lock is held until the last process that uses the view has ended. If a training run is killed, its loader
workers still hold the lock for a few seconds, until they notice that the run has ended.

If a dataset is repaired, its views are outdated, and a file {view}.outdated marks each of them. The next run
that locks such a view removes it, together with the caches of damaged files.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

import psutil

from include.datasets.arrays import is_whole
from include.file_locks import try_lock
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

_ORPHANS_SECONDS = 30.0
"""How long to wait for the loader workers of a killed process; they check every 5 s whether it still runs."""


@contextmanager
def lock_view(home: Path, name: str) -> Iterator[Path]:
    """Lock the first free folder of `home`/`name`, `home`/`name`-2, ... until the context ends.

    The folder need not exist yet. Raises UntrustedFolder if `home` is not trustworthy.
    """
    make_trusted_folder(home)
    for number in count(1):
        view = home / (name if number == 1 else f"{name}-{number}")
        descriptor = os.open(f"{view}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _lock(descriptor):
                _remove_outdated(view)
                _remove_unfinished(view, descriptor)
                yield view
                os.ftruncate(descriptor, 0)
                return
        finally:
            os.close(descriptor)


def mark_outdated(home: Path) -> None:
    """Mark all views of a dataset as outdated: each is removed and created again when it is next used."""
    for view in home.glob("view-*"):
        if view.is_dir() and not view.suffix:  # unfinished views have a suffix
            _locate_mark(view).touch()


def _locate_mark(view: Path) -> Path:
    return view.with_name(f"{view.name}.outdated")


def _remove_outdated(view: Path) -> None:
    """Remove the view if it is marked; remove the mark last, so that an interrupted removal is repeated."""
    if _locate_mark(view).exists():
        log.info("Removing %s, because files of its dataset were damaged and have been replaced.", view)
        if view.is_dir():
            shutil.rmtree(view)
        _locate_mark(view).unlink()


def _lock(descriptor: int) -> bool:
    """Lock the open file, waiting for the workers of a killed run. Returns False if it stays locked."""
    deadline = time.monotonic() + _ORPHANS_SECONDS
    while not try_lock(descriptor):
        user = _read_user(descriptor)  # None: the process has not written its id yet
        if user is None or psutil.pid_exists(user) or time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _remove_unfinished(view: Path, descriptor: int) -> None:
    """Record this process as the user of the view, and remove half-written .npy files of a killed process.

    An .npy file is a decoded image or, if it has a second hard link, a depth map of the dataset. Ultralytics
    does not always notice a truncated image. It does notice a truncated label cache, so that may stay.
    """
    if _read_user(descriptor) is not None:
        for image in view.rglob("*.npy"):
            if image.lstat().st_nlink == 1 and not image.is_symlink() and not is_whole(image):
                log.info("Removing %s, which an interrupted training run did not finish writing.", image)
                image.unlink()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _read_user(descriptor: int) -> int | None:
    """Return the id of the process that holds the lock or died while holding it; None if none is recorded."""
    written = os.pread(descriptor, 20, 0)
    return int(written) if written.isdigit() else None

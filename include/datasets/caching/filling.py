"""Fills the folders of a dataset in the cache: each appears under its name only once it is complete.

Only one process at a time fills folders of a dataset: it holds a lock. If the process dies, the kernel drops
the lock, and the next process that holds it removes the unfinished folder.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.datasets.disk import translate_disk_errors
from include.file_locks import try_lock
from include.trusted_folders import make_trusted_folder, require_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

log = logging.getLogger(__name__)


def is_complete(folder: Path) -> bool:
    """Return whether the folder exists and is thus complete. Raises UntrustedFolder if it is not trusted."""
    if not folder.is_dir():
        return False
    require_trusted_folder(folder)
    return True


def ensure_folder(
    home: Path,
    name: str,
    fill: Callable[[Path], None],
    source: str,
    is_intact: Callable[[Path], bool] = lambda _: True,
    repair: Callable[[Path], None] = lambda _: None,
) -> Path:
    """Return the folder `home`/`name`, creating it with `fill` if it does not exist.

    If the folder exists but is not intact, `repair` repairs it. The caller must have entered
    DatasetCache.use.

    Several processes may call this concurrently. A process that is killed during `fill` leaves no incomplete
    folder of that name behind. Raises DatasetNotHere if the disk is full or not writable, UntrustedFolder if
    another account on this machine could have tampered with the folder, and the errors of `fill` and
    `repair`.
    """
    target, partial = home / name, home / f"{name}.partial"
    with translate_disk_errors(home, source):
        make_trusted_folder(home)
        if is_complete(target) and is_intact(target):
            return target
        with lock_alone(home / "lock", f"fetching {source}"):
            if is_complete(target):
                if not is_intact(target):
                    repair(target)
                return target
            shutil.rmtree(partial, ignore_errors=True)
            partial.with_suffix(".zip").unlink(missing_ok=True)
            make_trusted_folder(partial)
            try:
                fill(partial)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
                partial.with_suffix(".zip").unlink(missing_ok=True)
    return target


@contextmanager
def lock_alone(file: Path, doing: str) -> Iterator[None]:
    """Lock the file. If another process holds the lock, log what it is doing (`doing`), and wait for it."""
    with file.open("w") as lock:
        if not try_lock(lock.fileno()):
            log.info("Another process is %s; waiting for it.", doing)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

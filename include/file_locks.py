"""Locks on files. The kernel releases a lock when the processes that hold it have ended."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def try_lock(descriptor: int) -> bool:
    """Lock an open file exclusively; return False if another process has locked it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def is_current(descriptor: int, path: Path) -> bool:
    """Return whether `path` still names the open file.

    If the file has been removed or replaced, a lock on it does not exclude processes that open `path` now.
    """
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def spared_by_cleaners(folder: Path) -> Iterator[None]:
    """Keep systemd-tmpfiles, which removes old files from /tmp, away from the folder until the block ends.

    It skips a folder that a process has locked (tmpfiles.d(5)), but removes locked files.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(OSError):  # the file system has no locks
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)

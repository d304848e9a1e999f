"""Files and folders that only their owner can read, or that everyone can."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from include.stack.errors import StackError

UMASK = 0o077
"""Umask of the stack's servers: other accounts on this machine cannot access the files that they create."""


def make_private_folder(path: Path) -> Path:
    """Create the folder if it is missing, and let only its owner access it. Raises StackError."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
    except OSError as error:
        raise StackError(
            f"{path} cannot be made private: {error.strerror}. Remove it, or make the user who runs the "
            "stack its owner."
        ) from error
    return path


def let_everyone_read(folder: Path) -> None:
    """Let every account read the files, and run the programs, whatever root's umask was."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | (0o055 if mode & 0o100 else 0o044))


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file that only its owner can read. The write is atomic, even if the power fails."""
    unfinished = path.with_name(path.name + ".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(descriptor)  # without this, a power failure after the rename could leave an empty file
    unfinished.replace(path)


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock on the file at `path` during the block; first wait while another process holds it."""
    with path.open("w") as file:
        path.chmod(0o600)  # otherwise, any account that can read the file could hold the lock
        fcntl.flock(file, fcntl.LOCK_EX)
        yield

"""Free disk space, and the meaning of the operating system's errors."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sqlite3
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetNotHere
from include.limits import GIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BUSY_MACHINE = {errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EINTR}
_FAILING_MOUNT = {
    *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO),  # NFS
    *(errno.ENOTCONN, errno.ECONNABORTED),  # FUSE without its daemon: s3fs, gcsfuse, JuiceFS
    *(errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ECONNRESET),  # CIFS
    errno.ESHUTDOWN,  # a Ceph client that its cluster has shut out
}
_FULL = {errno.ENOSPC, errno.EDQUOT}

_BLOCK = 4096


def is_passing(error: Exception) -> bool:
    """Return whether this is an OSError after which a retry may succeed."""
    return isinstance(error, OSError) and error.errno in _BUSY_MACHINE | _FAILING_MOUNT


def is_file(path: str) -> bool:
    """Return the same as `os.path.isfile`, but raise OSErrors after which a retry may succeed."""
    try:
        return stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - faster for a million files
    except (OSError, ValueError) as error:
        if is_passing(error):
            raise
        return False


def explain_unusable_disk(error: Exception) -> str | None:
    """Return the problem and its remedy, if the disk is full or cannot be written to.

    Returns None for all other errors. A permission error is one of them, because it may concern a file that
    is only being read.
    """
    number = error.errno if isinstance(error, OSError) else None
    if number in _FULL or getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return "the disk is full; free some space"
    if number == errno.EROFS:
        return f"it is not writable ({error}); allow the worker to write there"
    return None


def is_lack_of_memory(error: Exception) -> bool:
    """Return whether there was not enough memory for an object, a mapped file or a thread's stack."""
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and "start new thread" in str(error))
    )


def measure_on_disk(found: os.stat_result) -> int:
    """Return how many bytes a file takes on the disk: at least one block, unless it is empty."""
    return found.st_blocks * 512


def round_to_blocks(size: int) -> int:
    """Return how many bytes a file of this size will take on the disk, with blocks of the usual size."""
    return -(-size // _BLOCK) * _BLOCK


def flush(folder: Path) -> None:
    """Wait until everything that was written to the file system of `folder` is on the disk.

    For thousands of small files this takes seconds; syncing them one by one would take minutes.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        ctypes.CDLL(None).syncfs(descriptor)
    finally:
        os.close(descriptor)


def flush_file(path: Path) -> None:
    """Wait until the content of the file, or the names in the folder, are on the disk.

    Without this, a file could have its full size after a crash, although part of its content is missing.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_room(folder: Path, needed: int, source: str) -> None:
    """Raise DatasetNotHere unless `needed` bytes fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetNotHere(
            f"{source} needs {needed / GIB:.2f} GiB in {folder}, but only {free / GIB:.2f} GiB are free; "
            "free some space there, or set TRAINING_ROOT to a larger disk"
        )


@contextmanager
def translate_disk_errors(folder: Path, source: str) -> Iterator[None]:
    """Turn errors of a full disk or an unwritable folder into a DatasetNotHere that names the folder."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        problem = explain_unusable_disk(error)
        if isinstance(error, PermissionError):
            problem = f"it is not writable ({error}); allow the worker to write there"
        if problem is None:
            raise
        raise describe_unusable_disk(source, f"in {folder}", problem) from error


def describe_unusable_disk(source: str, place: str, problem: str) -> DatasetNotHere:
    """Return the error for a problem that `explain_unusable_disk` found."""
    return DatasetNotHere(
        f"{source} cannot be stored {place}: {problem}, or set TRAINING_ROOT to another disk"
    )

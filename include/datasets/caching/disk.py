"""Free disk space, and what the operating system's errors mean."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetNotHere
from include.limits import GIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EINTR}
"""Errors of a network file system or a busy machine, which may not occur again on a retry."""

_BLOCK = 4096


def is_lack_of_memory(error: Exception) -> bool:
    """Return whether memory ran out, for an object, a mapped file or a thread's stack."""
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and "start new thread" in str(error))
    )


def disk_blocks(found: os.stat_result) -> int:
    """Return how many bytes of the disk a file takes: at least one block, if it is not empty."""
    return found.st_blocks * 512


def round_to_blocks(size: int) -> int:
    """Return how many bytes of the disk a file of that size will take, with blocks of the usual size."""
    return -(-size // _BLOCK) * _BLOCK


def flush(folder: Path) -> None:
    """Wait until everything that was written to the file system of `folder` is on the disk.

    For thousands of small files this takes seconds; syncing them one by one would take minutes.
    """
    if sys.platform != "linux":
        os.sync()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        ctypes.CDLL(None).syncfs(descriptor)
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
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            problem = "the disk is full; free some space"
        elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            problem = f"it is not writable ({error}); allow the worker to write there"
        else:
            raise
        raise DatasetNotHere(
            f"{source} cannot be stored in {folder}: {problem}, or set TRAINING_ROOT to another disk"
        ) from error

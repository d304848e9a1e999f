"""Room on this machine's disk, and what the system's errors mean."""

from __future__ import annotations

import errno
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.datasets.errors import DatasetError
from include.limits import GIB

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSING = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.EINTR}
"""Errors of a network file system or of a busy machine: another attempt may not meet them."""


def is_lack_of_memory(error: Exception) -> bool:
    """Tell whether memory was asked for and refused: for an object, a mapped file, or a thread's stack."""
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or (isinstance(error, RuntimeError) and "start new thread" in str(error))
    )


def require_room(folder: Path, needed: int, source: str) -> None:
    """Raise DatasetError unless `needed` bytes fit on the disk of `folder`."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(
            f"{source} needs {needed / GIB:.2f} GiB in {folder}, where {free / GIB:.2f} GiB are free; free "
            "some there, or "
            "set TRAINING_ROOT to a larger disk"
        )


@contextmanager
def explained_disk_errors(folder: Path, source: str) -> Iterator[None]:
    """Turn a full or forbidden disk into a DatasetError that names the folder."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            problem = "the disk is full; free some room"
        elif error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            problem = f"it cannot be written ({error}); allow the worker to write there"
        else:
            raise
        raise DatasetError(
            f"{source} does not get into {folder}: {problem}, or set TRAINING_ROOT to another disk"
        ) from error

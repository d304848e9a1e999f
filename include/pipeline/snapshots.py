"""Where an attempt keeps its snapshots: apart from those of an attempt that still uploads its own."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def attempt_folder(parent: Path) -> Iterator[Path]:
    """Make a folder below `parent` for this attempt alone, and remove it in the end.

    While it is in use it is locked; the kernel unlocks it however the process ends.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix="attempt-"))
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_abandoned(parent: Path) -> None:
    """Remove what attempts that have ended left below `parent`.

    An attempt that was told to end has some time to upload its newest snapshots, while the next one begins.
    """
    for each in parent.iterdir() if parent.is_dir() else ():
        if not each.is_dir():
            each.unlink(missing_ok=True)
        elif not _is_locked(each):
            shutil.rmtree(each, ignore_errors=True)


def _is_locked(folder: Path) -> bool:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False

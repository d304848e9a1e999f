"""One view for each training: two that run at once on a machine never write into the same folder.

Ultralytics writes caches beside images and labels, and nothing in it expects another process there: it
removes a label cache or an .npy file that the other one is writing. So a view is locked while it is used, and
whoever finds it locked takes the next one. A view is used again later, with its caches.

The lock ends with the last process that uses the view: the loader workers of a training that was killed hold
it until they notice, seconds later.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from include.datasets.arrays import is_whole
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger(__name__)

_ORPHANS_SECONDS = 30.0
"""How long to wait for the loader workers of a process that was killed; they look for it every 5 seconds."""


@contextmanager
def own_view(home: Path, name: str) -> Iterator[Path]:
    """Give the first of the folders `home`/`name`, `home`/`name`-2, ... that nobody uses, until the end.

    The folder need not exist yet. Raises UntrustedFolder where `home` is not to be trusted.
    """
    make_trusted_folder(home)
    for number in count(1):
        view = home / (name if number == 1 else f"{name}-{number}")
        descriptor = os.open(f"{view}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if _lock(descriptor):
                _remove_unfinished(view, descriptor)
                yield view
                os.ftruncate(descriptor, 0)
                return
        finally:
            os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock the open file. Returns False where another training has it."""
    deadline = time.monotonic() + _ORPHANS_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if _runs(_user(descriptor)) or time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        else:
            return True


def _remove_unfinished(view: Path, descriptor: int) -> None:
    """Write down who uses the view. Where its last user was killed, remove what it has cached in part.

    Ultralytics does not always notice a decoded image that is not whole. It does for label caches.
    """
    if _user(descriptor) is not None:
        for image in view.rglob("*.npy"):
            if not is_whole(image):
                log.info("Removing %s, which an interrupted training has not finished.", image)
                image.unlink()
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)


def _user(descriptor: int) -> int | None:
    """Return the process that has locked the file and not let go of it in an orderly way."""
    written = os.pread(descriptor, 20, 0)
    return int(written) if written.isdigit() else None


def _runs(pid: int | None) -> bool:
    """Whether the process is there. One that has locked the file, but not written its number yet, is."""
    if pid is None:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # of another account
        return True
    return True

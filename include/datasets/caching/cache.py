"""The cache of datasets on this machine.

    {cache}/files/…                   the fetched files by content, see file_store.py
    {cache}/{fingerprint}/content/    the files of a dataset under their names, mostly links to {cache}/files/
    {cache}/{fingerprint}/view-*/     the folder that Ultralytics is given, see view.py
    {cache}/{key}/conversion/         the unfinished work of a conversion, see conversion/convert.py
    {cache}/locks/{fingerprint}       locked by each process that uses the dataset; its mtime is the last use
    {cache}/.evicted/                 folders that are being deleted, see eviction.py
    {cache}/checked.sqlite3           the files that passed a check, see known_files.py

A dataset is locked while it is checked, fetched or trained on, so that no other process removes it. The
kernel drops the lock when the process and all children that it forked have ended.

Each folder of a dataset appears under its name only once it is complete. Only the process that holds a second
lock fills folders of a dataset, and it first removes what a killed process left unfinished.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.caching.file_store import FileStore
from include.datasets.disk import translate_disk_errors
from include.file_locks import is_current, try_lock
from include.trusted_folders import make_trusted_folder, require_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DatasetCache:
    """One machine's cache."""

    folder: Path
    """A resolved path of a trusted folder, see trusted_folders.py."""
    limit: int | None = None
    """The size in bytes above which unused datasets are evicted; None for half of the disk."""

    @classmethod
    def open(cls, folder: Path, limit: int | None = None) -> DatasetCache:
        """Open the cache, creating its folder if needed. Raises UntrustedFolder if that cannot be trusted."""
        return cls(make_trusted_folder(folder).resolve(), limit)

    @property
    def files(self) -> FileStore:
        """The fetched files by content."""
        return FileStore(self.folder / "files")

    @property
    def known_files(self) -> Path:
        """The path of the database of the files that passed a check."""
        return self.folder / "checked.sqlite3"

    @property
    def locks(self) -> Path:
        """The folder of the locks."""
        return self.folder / "locks"

    @contextmanager
    def use(self, fingerprint: str) -> Iterator[Path]:
        """Protect a dataset from eviction until the context ends; yield its folder, which need not exist."""
        make_trusted_folder(self.locks)
        descriptor = _lock_shared(self.locks / fingerprint)
        try:
            os.utime(descriptor)
            yield self.folder / fingerprint
            os.utime(descriptor)
        finally:
            os.close(descriptor)


def _lock_shared(path: Path) -> int:
    """Open the file and lock it; create it if it does not exist."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o660)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        if is_current(descriptor, path):
            return descriptor
        os.close(descriptor)  # the dataset was evicted, together with this lock file


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
    repair: Callable[[Path], None] | None = None,
) -> Path:
    """Return the folder `home`/`name`, creating it with `fill` if it does not exist.

    If the folder exists but is not intact, `repair` repairs it; without `repair`, it is created again. The
    caller must have entered DatasetCache.use.

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
                if is_intact(target):
                    return target
                if repair:
                    repair(target)
                    return target
                log.warning("%s lacks files; creating it again.", target)
                shutil.rmtree(target)
            shutil.rmtree(partial, ignore_errors=True)
            make_trusted_folder(partial)
            try:
                fill(partial)
                partial.rename(target)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    return target


@contextmanager
def lock_alone(file: Path, doing: str) -> Iterator[None]:
    """Lock the file. If another process holds the lock, log what it is doing (`doing`), and wait for it."""
    with file.open("w") as lock:
        if not try_lock(lock.fileno()):
            log.info("Another process is %s; waiting for it.", doing)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield

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
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.caching.file_store import FileStore
from include.file_locks import is_current
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Iterator


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

    def locate_home(self, fingerprint: str) -> Path:
        """Return a dataset's folder, which need not exist."""
        return self.folder / fingerprint

    @contextmanager
    def use(self, fingerprint: str) -> Iterator[Path]:
        """Protect a dataset from eviction until the context ends; yield its folder, which need not exist."""
        make_trusted_folder(self.locks)
        descriptor = _lock_shared(self.locks / fingerprint)
        try:
            os.utime(descriptor)
            yield self.locate_home(fingerprint)
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

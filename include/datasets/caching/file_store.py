"""Stores fetched files by content: each is stored once, even if several datasets contain it.

    {cache}/files/{first two digits of the key}/{key}

The key of a file from a zip is its SHA-256, and the key of an object is a hash of its ETag and size. So a
file that is fetched both in a zip and as an object is stored twice. A dataset's folder has hard links to the
stored files, so a stored file without other links belongs to no dataset and may be removed at any time. Files
are read-only, and appear under their keys once they are complete. So an interrupted fetch of a prefix
continues where it stopped; that of a zip starts again. On a file system without hard links, nothing is stored
here, and each dataset has its own copies.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.datasets.storage import StoredObject

log = logging.getLogger(__name__)

NO_LINKS = {errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS}
"""The errors that mean that a file can have no more hard links. EMLINK: ext4 allows 65,000 links to a file,
but more images than that may have equal label files, such as empty ones. EPERM, EACCES: several accounts
share the cache, and the kernel refuses links to another account's files."""

_READ_ONLY = 0o444


def compute_object_key(stored: StoredObject) -> str:
    """Return the key of an object's content. It can be computed before the download."""
    text = " ".join(["s3", *stored.content])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class FileStore:
    """The files of one cache, keyed by their content; several threads and processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._prefix = f"{folder}{os.sep}"

    def link(self, key: str, size: int, target: str) -> bool:
        """Make `target` a link to the stored file, or a copy of it.

        Returns False if no file of this key and size is stored. The folder of `target` must exist. Raises
        FileExistsError if `target` exists.
        """
        stored = f"{self._prefix}{key[:2]}{os.sep}{key}"  # creating a Path takes as long as the system calls
        try:
            if os.lstat(stored).st_size != size:
                log.warning("%s is damaged and will be fetched again.", stored)
                Path(stored).unlink(missing_ok=True)
                return False
            os.link(stored, target, follow_symlinks=False)
        except FileNotFoundError:
            return False
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            return self._copy(Path(stored), Path(target))
        return True

    def keep(self, file: Path, key: str) -> None:
        """Add a complete file to the store, or replace it with a link if its content is already stored.

        If no link is possible, the file stays as it is. If the stored file cannot have more links, this file
        takes its place in the store.
        """
        file.chmod(_READ_ONLY)
        stored = self.folder / key[:2] / key
        with _without_links():
            try:
                self._add(file, stored)
            except FileExistsError:
                self._share(file, stored)

    def list_files(self) -> Iterator[os.DirEntry[str]]:
        """Yield all files in the store, including temporary files that a killed process left behind."""
        with suppress(FileNotFoundError), os.scandir(self.folder) as folders:
            for folder in folders:
                with os.scandir(folder) as files:
                    yield from files

    def _add(self, file: Path, stored: Path) -> None:
        try:
            os.link(file, stored, follow_symlinks=False)
        except FileNotFoundError:
            make_trusted_folder(stored.parent)
            os.link(file, stored, follow_symlinks=False)

    def _share(self, file: Path, stored: Path) -> None:
        """Make `file` a link to `stored`, or the reverse if `stored` is damaged or cannot be linked to."""
        with suppress(FileNotFoundError):  # the stored file has been removed
            if os.lstat(stored).st_size == file.stat().st_size:
                with _without_links():
                    _replace_by_link(stored, file)
                    return
            _replace_by_link(file, stored)

    def _copy(self, stored: Path, target: Path) -> bool:
        """Copy a file that has too many links, and replace it in the store with the copy."""
        try:
            with stored.open("rb") as source, target.open("xb") as copy:
                shutil.copyfileobj(source, copy)
        except FileNotFoundError:
            return False
        target.chmod(_READ_ONLY)
        with suppress(OSError):
            _replace_by_link(target, stored)
        return True


@contextmanager
def _without_links() -> Iterator[None]:
    """Ignore errors that mean that no further hard link to a file is possible."""
    try:
        yield
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise


def _replace_by_link(source: Path, target: Path) -> None:
    """Make `target` a link to `source` in one step, whether or not `target` exists."""
    # Hidden names are never part of a dataset.
    temporary = target.with_name(f".{uuid4().hex}")
    os.link(source, temporary, follow_symlinks=False)
    try:
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # a rename does nothing if both names are links to the same file

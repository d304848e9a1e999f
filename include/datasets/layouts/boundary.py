"""Confines a dataset to its folder: nothing outside is listed or opened, wherever paths and links lead."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from include.datasets.errors import DatasetError
from include.refusals import show_value


@dataclass(frozen=True)
class DatasetRoots:
    """The folders of this machine in which local datasets may be."""

    folders: tuple[Path, ...] = ()
    """A dataset must be below one of these folders; if there are none, local paths are not allowed."""
    training_root: Path | None = None
    """A folder in which local datasets may not be, because it contains the cache of fetched data. Without
    this rule, a data YAML from a bucket would count as local once a user gave its path in the cache."""

    def resolve(self) -> DatasetRoots:
        """Return the same folders with all links resolved."""
        barred = self.training_root and resolve_links(self.training_root)
        return DatasetRoots(tuple(resolve_links(folder) for folder in self.folders), barred)

    def is_allowed(self, real: Path) -> bool:
        """Return whether a local dataset may be at `real`. `real` and the roots must be resolved paths."""
        return not self.is_excluded(real) and any(real.is_relative_to(folder) for folder in self.folders)

    def is_excluded(self, real: Path) -> bool:
        """Return whether the resolved path is in a place that is off limits to local datasets."""
        return self.training_root is not None and real.is_relative_to(self.training_root)


class LeadsOutside(ValueError):
    """A path leads outside the dataset, directly or through a link, or to something other than a file."""


class Boundary:
    """The folder of one dataset. This class resolves every path in the dataset before it is used."""

    def __init__(self, folder: Path, source: str, barred: Path | None) -> None:
        self.folder, self.source = folder, source
        self._barred = barred
        self.unread_images: Counter[tuple[str, str]] = Counter()
        """How many images are in a format that Ultralytics skips, by folder and suffix."""
        self.circular_links: list[str] = []
        """Links that were not followed because they lead back to a folder that contains them."""
        self._resolves_folders = barred is not None and barred.is_relative_to(folder)
        # There are many files but few folders: each folder is resolved once, and a file only if it is a link.
        self._resolve_folder_once = cache(self._resolve_folder)

    def contains(self, real: Path) -> bool:
        """Return whether the resolved path is inside the dataset."""
        is_inside = real.is_relative_to(self.folder)
        return is_inside and not (self._barred is not None and real.is_relative_to(self._barred))

    def resolve(self, path: Path, what: str) -> Path:
        """Resolve all links in `path`. Raises DatasetError about `what` if the path leads outside."""
        real = resolve_links(path)
        if not self.contains(real):
            raise DatasetError(f"Dataset {self.source!r}: {what} {_LEADS_OUTSIDE}")
        return real

    def resolve_file(self, path: str) -> str:
        """Resolve all links in a file's path.

        Raises LeadsOutside, also for anything but a regular file, and OSErrors such as FileNotFoundError.
        """
        folder, _, name = path.rpartition(os.sep)
        parent, is_inside = self._resolve_folder_once(folder)
        if not is_inside:  # do not even check whether the file exists
            raise LeadsOutside(f"it {_LEADS_OUTSIDE}")
        real = path if parent == folder else f"{parent}{os.sep}{name}"
        status = os.lstat(real)
        if stat.S_ISLNK(status.st_mode):
            target = resolve_links(Path(real))
            if not self.contains(target):
                raise LeadsOutside(f"it {_LEADS_OUTSIDE}")
            real, status = str(target), target.stat()
        if not stat.S_ISREG(status.st_mode):
            raise LeadsOutside("it is not a regular file; replace it with a regular file")
        return real

    def require_walkable(self, folder: Path) -> None:
        """Raise DatasetError if the folder is off limits, or is a link that leads outside or forms a loop.

        Call this before listing the folder.
        """
        if not folder.is_symlink() and not self._resolves_folders:
            return
        name = show_value(self.make_relative(folder))
        real = self.resolve(folder, name)
        if folder.is_symlink() and resolve_links(folder.parent).is_relative_to(real):
            raise DatasetError(f"Dataset {self.source!r}: the link {name} is part of a loop; remove it")

    def make_relative(self, path: Path) -> str:
        """Return `path` for messages, relative to the dataset if it is inside."""
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else str(path)

    def _resolve_folder(self, folder: str) -> tuple[str, bool]:
        real = resolve_links(Path(folder))
        return str(real), self.contains(real)


_LEADS_OUTSIDE = "leads outside the dataset; use a path inside it, and files instead of links"


def resolve_links(path: Path) -> Path:
    """Resolve all links in the existing part of `path`. Raises no OSError, even if links form a loop."""
    return Path(os.path.realpath(path))

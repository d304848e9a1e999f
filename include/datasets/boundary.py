"""Keeps a dataset to its folder: wherever paths and links lead, nothing outside is listed or opened."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from include.datasets.errors import DatasetError
from include.refusals import shown


@dataclass(frozen=True)
class DatasetRoots:
    """Where local datasets may lie on this machine: below one of `folders`, and never in training_root.

    What is fetched is kept in training_root, so that a data YAML from a bucket could be given as a local one.
    Without folders, local paths are switched off.
    """

    folders: tuple[Path, ...] = ()
    training_root: Path | None = None

    def resolved(self) -> DatasetRoots:
        """Return the same folders with all links followed."""
        barred = self.training_root and resolve(self.training_root)
        return DatasetRoots(tuple(resolve(folder) for folder in self.folders), barred)

    def contain(self, real: Path) -> bool:
        """Tell whether a local dataset may be at `real`; all of these paths are resolved."""
        return not self.bar(real) and any(real.is_relative_to(folder) for folder in self.folders)

    def bar(self, real: Path) -> bool:
        """Tell whether the resolved path lies where no local dataset may."""
        return self.training_root is not None and real.is_relative_to(self.training_root)


class LeadsOutside(ValueError):
    """A path, or a link at it, leads outside the dataset; or what is there is no plain file."""


class Boundary:
    """The folder of one dataset. Everything that the dataset names is resolved here before it is used."""

    def __init__(self, folder: Path, source: str, barred: Path | None = None) -> None:
        self.folder, self.source = folder, source
        self._barred = barred
        self._resolves_folders = barred is not None and barred.is_relative_to(folder)
        # Files are many and folders are few: a file is resolved by its folder, unless it is a link itself.
        self._folders: dict[str, tuple[str, bool]] = {}

    def holds(self, real: Path) -> bool:
        """Tell whether the resolved path lies inside."""
        inside = real.is_relative_to(self.folder)
        return inside and not (self._barred is not None and real.is_relative_to(self._barred))

    def resolve(self, path: Path, what: str) -> Path:
        """Follow all links of `path`. Raises DatasetError if it leads outside; `what` names it in that."""
        real = resolve(path)
        if not self.holds(real):
            raise DatasetError(f"Dataset {self.source!r}: {what} {_LEADS_OUTSIDE}")
        return real

    def resolve_file(self, path: Path) -> Path:
        """Follow all links of a file. Raises LeadsOutside, also for devices and pipes; FileNotFoundError."""
        folder, _, name = str(path).rpartition(os.sep)
        parent, inside = self._resolve_folder(folder)
        if not inside:  # it is not even asked whether the file is there
            raise LeadsOutside(f"it {_LEADS_OUTSIDE}")
        real = path if parent == folder else Path(parent, name)
        status = os.lstat(real)
        if stat.S_ISLNK(status.st_mode):
            real = resolve(real)
            if not self.holds(real):
                raise LeadsOutside(f"it {_LEADS_OUTSIDE}")
            status = real.stat()
        if not stat.S_ISREG(status.st_mode):
            raise LeadsOutside("it is not a regular file; put a plain file there")
        return real

    def require_walkable(self, folder: Path) -> None:
        """Look at a folder before it is listed. Raises DatasetError for a link outside or in a circle."""
        if not folder.is_symlink() and not self._resolves_folders:
            return
        name = shown(self.shown(folder))
        real = self.resolve(folder, name)
        if folder.is_symlink() and resolve(folder.parent).is_relative_to(real):
            raise DatasetError(f"Dataset {self.source!r}: the link {name} leads in a circle; remove it")

    def shown(self, path: Path) -> str:
        """Write `path` for a person: relative to the dataset where it can be."""
        return str(path.relative_to(self.folder)) if path.is_relative_to(self.folder) else str(path)

    def _resolve_folder(self, folder: str) -> tuple[str, bool]:
        known = self._folders.get(folder)
        if known is None:
            real = resolve(Path(folder))
            known = self._folders[folder] = str(real), self.holds(real)
        return known


_LEADS_OUTSIDE = "leads outside the dataset; use a path inside it, and files instead of links"


def resolve(path: Path) -> Path:
    """Follow all links of `path`, as far as it exists. Never raises, also not for links in a circle."""
    return Path(os.path.realpath(path))

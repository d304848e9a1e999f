"""One call that says whether a file is a checkpoint that may be loaded."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from include.checkpoints.inspection.archive import Source, read_archive
from include.checkpoints.inspection.contents import Contents, read_contents
from include.checkpoints.inspection.unpickler import SymbolicUnpickler


def inspect_source(source: Source) -> Contents:
    """Say what the checkpoint in `source` is.

    Only its directory and its pickle are read. Raises ForeignCode, NotACheckpoint, TooLarge; an OSError where
    it cannot be read.
    """
    archive = read_archive(source)
    return read_contents(SymbolicUnpickler(archive.pickle, archive.storages).load())


def inspect_file(path: Path) -> Contents:
    """Say what the checkpoint at `path` is, as `inspect_source` does."""
    with path.open("rb") as file:
        return inspect_source(LocalSource(file))


class LocalSource:
    """An open file (a Source)."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    def read(self, start: int, length: int) -> bytes:
        """Return the `length` bytes from `start` on."""
        return os.pread(self._file.fileno(), length, start)

"""Decides whether files are checkpoints that may be loaded."""

from __future__ import annotations

import os
import pickletools
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

from include.checkpoints.inspection.archive import read_archive
from include.checkpoints.inspection.contents import read_contents
from include.checkpoints.inspection.errors import ForeignCode, InspectionError
from include.checkpoints.inspection.unpickler import SymbolicUnpickler

if TYPE_CHECKING:
    from include.checkpoints.inspection.archive import Source
    from include.checkpoints.inspection.contents import Contents


def inspect_checkpoint(source: Source) -> Contents:
    """Describe the checkpoint in `source`, without reading its weights.

    Raises ForeignCode, NotACheckpoint, TooLarge, and OSError if it cannot be read.
    """
    archive = read_archive(source)
    unpickler = SymbolicUnpickler(archive.pickle, archive.storages)
    contents = read_contents(unpickler.load())
    return replace(contents, modules=tuple(sorted(unpickler.modules)))


def inspect_file(path: Path) -> Contents:
    """Describe the checkpoint at `path`, as `inspect_checkpoint` does."""
    with path.open("rb") as file:
        return inspect_checkpoint(LocalSource(file))


def judge_source(source: Source) -> str | None:
    """Return None for a checkpoint; for harmless bytes, return why they are not a checkpoint.

    Raises ForeignCode, NotACheckpoint or TooLarge for all other bytes: these might run code when another
    program loads them.
    """
    try:
        inspect_checkpoint(source)
    except ForeignCode:
        raise
    except InspectionError as error:
        if not _is_inert(source.read(0, min(source.size, tarfile.BLOCKSIZE))):
            raise
        return str(error)
    return None


_PICKLE_BEGINS = {ord(opcode.code) for opcode in pickletools.opcodes if not opcode.stack_before}
"""Opcodes with which a pickle can start; all others need something on the stack."""


def _is_inert(head: bytes) -> bool:
    """Return whether bytes that start with `head` are neither a pickle nor an archive that may hold one."""
    if not head:
        return True
    try:
        tarfile.TarInfo.frombuf(head, tarfile.ENCODING, "surrogateescape")
    except tarfile.HeaderError:
        return head[0] not in _PICKLE_BEGINS and not head.startswith(b"PK")
    return False


class LocalSource:
    """A Source that reads an open file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.size = os.fstat(file.fileno()).st_size

    def read(self, start: int, length: int) -> bytes:
        """Return the `length` bytes that start at `start`."""
        return os.pread(self._file.fileno(), length, start)

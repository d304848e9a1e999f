"""Unpacks zip files from people we do not know."""

from __future__ import annotations

import errno
import io
import stat
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.disk import explained_disk_errors, require_room
from include.datasets.errors import DatasetError
from include.datasets.names import is_useless, safe_parts
from include.datasets.progress import Progress
from include.limits import ARCHIVE_BYTES, ARCHIVE_DIRECTORY, ARCHIVE_FILES, GIB, in_words
from include.refusals import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BLOCK = 1024 * 1024
_ENCRYPTED = 0x1
_LOCAL_HEADER = 30
"""Bytes before each file, without its name."""

_BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OverflowError, RuntimeError)
"""What zipfile raises for what is no zip; UnicodeDecodeError, for names, is a ValueError."""


@dataclass(frozen=True)
class UnpackLimits:
    """The most that an archive may become: bytes after unpacking, files, and bytes of the list of them."""

    size: int = ARCHIVE_BYTES
    files: int = ARCHIVE_FILES
    directory: int = ARCHIVE_DIRECTORY


class _Archive(io.FileIO):
    """Refuses to be read in one piece: zipfile does that with the list of files, whatever its size.

    Everything else it reads in small blocks.
    """

    def __init__(self, path: Path, source: str, limits: UnpackLimits) -> None:
        super().__init__(path)
        self._source, self._most = source, limits.directory

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > self._most:
            raise DatasetError(
                f"{self._source}: the list of its files takes {in_words(size)}, more than the "
                f"{in_words(self._most)} that are read; upload the files below a prefix instead and give "
                "s3://bucket/prefix/"
            )
        return super().read(size)


def unpack_fetched(archive: str, target: str, source: str) -> None:
    """Unpack with the usual limits; runs confined, see confinement.py. Raises DatasetError."""
    with explained_disk_errors(Path(target), source):
        unpack(Path(archive), Path(target), source, UnpackLimits())


def unpack(archive: Path, target: Path, source: str, limits: UnpackLimits) -> None:
    """Unpack `archive` into the existing empty folder `target`.

    Every entry is judged before the first byte is written. Raises DatasetError for an archive that is broken,
    encrypted, too large, or has an entry that leads outside or is not a plain file.
    """
    try:
        with _Archive(archive, source, limits) as file, zipfile.ZipFile(file) as opened:
            entries = list(_judged(opened, source, limits))
            require_room(target, sum(entry.file_size for entry, _ in entries), source)
            _write(opened, entries, target, source, limits)
    except NotImplementedError as error:
        raise DatasetError(
            f"{source} cannot be unpacked ({shown(str(error))}); repack it with ordinary deflate compression"
        ) from error
    except (*_BROKEN, OSError) as error:
        # EINVAL: its list of files begins before the file does.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise DatasetError(
            f"{source} is not a whole zip file ({shown(str(error))}); upload it again"
        ) from error


def _judged(
    opened: zipfile.ZipFile, source: str, limits: UnpackLimits
) -> Iterator[tuple[zipfile.ZipInfo, tuple[str, ...]]]:
    entries = opened.infolist()
    if len(entries) > limits.files:
        raise DatasetError(
            f"{source} holds {len(entries)} files, more than the {limits.files} that are allowed"
        )
    if sum(entry.file_size for entry in entries) > limits.size:
        raise _too_large(source, limits)
    _require_apart(entries, opened.start_dir, source)
    for entry in entries:
        try:
            parts = safe_parts(entry.orig_filename)
        except ValueError as error:
            raise DatasetError(
                f"{source} holds {shown(entry.orig_filename)}, a name that is refused: {error}. Repack it"
            ) from error
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise DatasetError(
                f"{source} holds {shown(entry.filename)}, a link or device; repack it with plain files only"
            )
        if entry.flag_bits & _ENCRYPTED:
            raise DatasetError(
                f"{source} is encrypted ({shown(entry.filename)}); repack it without a password"
            )
        if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise DatasetError(
                f"{source}: {shown(entry.filename)} is packed in an unusual way; repack it with ordinary "
                "deflate"
            )
        if not entry.is_dir() and not is_useless(parts):
            yield entry, parts


def _require_apart(entries: Sequence[zipfile.ZipInfo], end: int, source: str) -> None:
    """Refuse files that share their bytes: a few megabytes of them unpack to all that is allowed."""
    placed = sorted(entries, key=lambda entry: entry.header_offset)
    starts = [*(entry.header_offset for entry in placed[1:]), end]
    for entry, start in zip(placed, starts, strict=False):
        if entry.header_offset + _LOCAL_HEADER + entry.compress_size > start:
            raise DatasetError(
                f"{source} holds {shown(entry.filename)} in the same bytes as another file; repack it"
            )


def _write(
    opened: zipfile.ZipFile,
    entries: list[tuple[zipfile.ZipInfo, tuple[str, ...]]],
    target: Path,
    source: str,
    limits: UnpackLimits,
) -> None:
    # What the directory of an archive says about sizes may be a lie, so the bytes that really come out are
    # counted.
    left = limits.size
    progress = Progress(f"Unpacking {source}", len(entries), "files")
    for entry, parts in entries:
        path = target.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(entry) as packed, path.open("xb") as file:
                while block := packed.read(_BLOCK):
                    left -= len(block)
                    if left < 0:
                        raise _too_large(source, limits)
                    file.write(block)
        except (FileExistsError, NotADirectoryError) as error:
            raise DatasetError(f"{source} holds {shown(entry.filename)} twice; repack it") from error
        progress.advance()


def _too_large(source: str, limits: UnpackLimits) -> DatasetError:
    return DatasetError(
        f"{source} becomes larger than {limits.size / GIB:.2f} GiB when it is unpacked, which is the limit; "
        "upload the files "
        "below a prefix instead and give s3://bucket/prefix/"
    )

"""Unpacks zip files from untrusted sources."""

from __future__ import annotations

import errno
import hashlib
import io
import stat
import struct
import zipfile
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from include.blocks import read_blocks
from include.datasets.caching.file_store import FileStore
from include.datasets.disk import require_room, round_to_blocks, translate_disk_errors
from include.datasets.errors import DatasetError
from include.datasets.names import is_ignored, split_safely
from include.datasets.progress import ProgressLog
from include.limits import ARCHIVE_BYTES, ARCHIVE_DIRECTORY, ARCHIVE_FILES, GIB, in_words
from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    _Entries = list[tuple[zipfile.ZipInfo, tuple[str, ...]]]

_ENCRYPTED, _UTF_8 = 0x1, 0x800
"""Flags of an entry: its content is encrypted, and its name is in UTF-8."""

_LOCAL_HEADER = 30
"""Size in bytes of the header before each file, excluding the file's name."""

BROKEN = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, ValueError, OverflowError, RuntimeError)
"""The errors that zipfile raises for broken files; ValueError, for example, if it cannot decode a name."""


@dataclass(frozen=True)
class UnpackLimits:
    """Limits on the content of an archive."""

    size: int = ARCHIVE_BYTES
    """Total size of the unpacked files in bytes."""
    files: int = ARCHIVE_FILES
    """Number of files."""
    directory: int = ARCHIVE_DIRECTORY
    """Size of the list of files in bytes."""


class _Archive(io.FileIO):
    """A file that limits the size of a single read, and thereby the size of the archive's list of files.

    zipfile reads this list in one call, however large it is, and everything else in small blocks.
    """

    def __init__(self, path: Path, source: str, limits: UnpackLimits) -> None:
        super().__init__(path)
        self._source, self._most = source, limits.directory

    def read(self, size: int | None = -1) -> bytes:
        if size is not None and size > self._most:
            raise DatasetError(
                f"{self._source}: its file list takes {in_words(size)}, more than the limit of "
                f"{in_words(self._most)}; upload the files under a prefix instead and give s3://bucket/prefix/"
            )
        return super().read(size)


def measure_unpacked(archive: str, source: str) -> int:
    """Return the disk space that the unpacked files will need, according to the archive's list of files.

    Runs in a confined process, see confinement.py. Raises the DatasetErrors that `unpack` raises before it
    writes anything.
    """
    with _open(Path(archive), source, UnpackLimits()) as (_, entries):
        return sum(round_to_blocks(entry.file_size) for entry, _ in entries)


def unpack(archive: str, target: str, source: str, store: str, limits: UnpackLimits = UnpackLimits()) -> None:
    """Unpack `archive` into the existing empty folder `target`; add the files to the FileStore in `store`.

    Runs in a confined process, see confinement.py. The list of files is checked before the first byte is
    written. Raises DatasetError for an archive that is broken, encrypted or too large. Also raises it for an
    entry that leads out of `target`, is a link or device, or has another entry's name. Raises DatasetNotHere
    if the disk is too small or not writable.
    """
    folder = Path(target)
    with translate_disk_errors(folder, source), _open(Path(archive), source, limits) as (opened, entries):
        require_room(folder, sum(entry.file_size for entry, _ in entries), source)
        _write(opened, entries, folder, source, limits, FileStore(Path(store)))


@contextmanager
def _open(archive: Path, source: str, limits: UnpackLimits) -> Iterator[tuple[zipfile.ZipFile, _Entries]]:
    """Open an archive and check its entries; translate errors that occur while the archive is open."""
    try:
        with _Archive(archive, source, limits) as file, zipfile.ZipFile(file) as opened:
            yield opened, list(_check_entries(opened, source, limits))
    except NotImplementedError as error:
        raise DatasetError(
            f"{source} cannot be unpacked ({show_value(str(error))}); repack it with ordinary deflate "
            "compression"
        ) from error
    except (*BROKEN, OSError) as error:
        # EINVAL: the list of files would start before the beginning of the archive.
        if isinstance(error, OSError) and error.errno != errno.EINVAL:
            raise
        raise DatasetError(
            f"{source} is not a complete zip file ({show_value(str(error))}); upload it again"
        ) from error


def _check_entries(
    opened: zipfile.ZipFile, source: str, limits: UnpackLimits
) -> Iterator[tuple[zipfile.ZipInfo, tuple[str, ...]]]:
    entries = opened.infolist()
    if len(entries) > limits.files:
        raise DatasetError(f"{source} contains {len(entries)} files, more than the limit of {limits.files}")
    if sum(entry.file_size for entry in entries) > limits.size:
        raise _describe_excess(source, limits)
    _require_no_overlap(entries, opened.start_dir, source)
    for entry in entries:
        name = _decode_name(entry)
        try:
            parts = split_safely(name)
        except ValueError as error:
            raise DatasetError(
                f"{source} contains {show_value(name)}, which is not an allowed name: {error}. Repack it"
            ) from error
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise DatasetError(
                f"{source} contains {show_value(name)}, a link or device; repack it with plain files only"
            )
        if entry.flag_bits & _ENCRYPTED:
            raise DatasetError(f"{source} is encrypted ({show_value(name)}); repack it without a password")
        if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise DatasetError(
                f"{source}: {show_value(name)} uses an unsupported compression method; repack it with "
                "ordinary deflate"
            )
        if not entry.is_dir() and not is_ignored(parts):
            yield entry, parts


def _decode_name(entry: zipfile.ZipInfo) -> str:
    """Return the name of an entry.

    By the standard, a name without the UTF-8 flag is in code page 437, and zipfile decodes it so. But the
    `zip` of Linux and the Finder of macOS write UTF-8 without setting the flag.
    """
    if entry.flag_bits & _UTF_8:
        return entry.orig_filename
    try:
        return entry.orig_filename.encode("cp437").decode("utf-8")
    except UnicodeError:
        return entry.orig_filename


def _require_no_overlap(entries: Sequence[zipfile.ZipInfo], end: int, source: str) -> None:
    """Refuse files that overlap, because a few megabytes of them could unpack to the full size limit."""
    in_order = sorted(entries, key=lambda entry: entry.header_offset)
    starts = [*(entry.header_offset for entry in in_order[1:]), end]
    for entry, start in zip(in_order, starts, strict=False):
        if entry.header_offset + _LOCAL_HEADER + entry.compress_size > start:
            raise DatasetError(
                f"{source} contains {show_value(_decode_name(entry))}, which overlaps another file; repack it"
            )


def _write(
    opened: zipfile.ZipFile,
    entries: _Entries,
    target: Path,
    source: str,
    limits: UnpackLimits,
    store: FileStore,
) -> None:
    # The sizes in the archive's list of files may be wrong, so the bytes that are unpacked are counted.
    left = limits.size
    progress = ProgressLog(f"Unpacking {source}", len(entries), "files")
    for entry, parts in entries:
        path = target.joinpath(*parts)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            digest = hashlib.sha256()
            with opened.open(entry) as packed, path.open("xb") as file:
                for block in read_blocks(packed):
                    left -= len(block)
                    if left < 0:
                        raise _describe_excess(source, limits)
                    digest.update(block)
                    file.write(block)
        except (FileExistsError, NotADirectoryError) as error:
            if path.is_file():
                problem = f"contains {show_value(_decode_name(entry))} twice; repack it"
            else:
                name = show_value(_decode_name(entry))
                problem = f"contains a file and a folder of the same name, in {name}"
                problem += "; rename one of them"
            raise DatasetError(f"{source} {problem}") from error
        store.keep(path, digest.hexdigest())
        progress.advance()


def _describe_excess(source: str, limits: UnpackLimits) -> DatasetError:
    return DatasetError(
        f"{source} is larger than the limit of {limits.size / GIB:.2f} GiB when unpacked; upload the files "
        "under a prefix instead and give s3://bucket/prefix/"
    )

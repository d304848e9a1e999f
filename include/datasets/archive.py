"""Unpacks zip files from people we do not know."""

from __future__ import annotations

import stat
import zipfile
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets.disk import GIB, require_room
from include.datasets.errors import DatasetError
from include.datasets.names import is_useless, safe_parts
from include.datasets.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK = 1024 * 1024
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class UnpackLimits:
    """The most that an archive may become: bytes after unpacking, and files."""

    size: int = 50 * GIB
    files: int = 1_000_000


def unpack(archive: Path, target: Path, source: str, limits: UnpackLimits) -> None:
    """Unpack `archive` into the existing empty folder `target`.

    Every entry is judged before the first byte is written. Raises DatasetError for an archive that is broken,
    encrypted, too large, or has an entry that leads outside or is not a plain file.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            entries = list(_judged(opened, source, limits))
            require_room(target, sum(entry.file_size for entry, _ in entries), source)
            _write(opened, entries, target, source, limits)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DatasetError(f"{source} is not a whole zip file ({error}); upload it again") from error
    except NotImplementedError as error:
        raise DatasetError(
            f"{source} cannot be unpacked ({error}); repack it with ordinary deflate compression"
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
    for entry in entries:
        try:
            parts = safe_parts(entry.orig_filename)
        except ValueError as error:
            raise DatasetError(
                f"{source} holds {entry.orig_filename!r}, a name that is refused: {error}. Repack it"
            ) from error
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if kind not in {0, stat.S_IFREG, stat.S_IFDIR}:
            raise DatasetError(
                f"{source} holds {entry.filename!r}, a link or device; repack it with plain files only"
            )
        if entry.flag_bits & _ENCRYPTED:
            raise DatasetError(f"{source} is encrypted ({entry.filename!r}); repack it without a password")
        if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise DatasetError(
                f"{source}: {entry.filename!r} is packed in an unusual way; repack it with ordinary deflate"
            )
        if not entry.is_dir() and not is_useless(parts):
            yield entry, parts


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
            raise DatasetError(f"{source} holds {entry.filename!r} twice; repack it") from error
        progress.advance()


def _too_large(source: str, limits: UnpackLimits) -> DatasetError:
    return DatasetError(
        f"{source} becomes larger than {limits.size / GIB:.2f} GiB when it is unpacked, which is the limit; "
        "upload the files "
        "below a prefix instead and give s3://bucket/prefix/"
    )

"""Reads the archive of a checkpoint, which must be a ZIP file exactly as torch.save writes it.

Two programs may read the same ZIP file differently: one takes the first of two entries with the same name,
the other the last; one takes sizes from the directory, the other from the entries; one expects the directory
at the end, the other looks for it earlier. So this reader accepts only unambiguous archives, and the bytes
that it returns are those that torch will read.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, replace
from typing import Protocol

from include.checkpoints.inspection.errors import ForeignCode, NotACheckpoint, TooLarge

MAX_ENTRIES = 100_000
"""Maximum number of entries; a full state of the largest model (YOLOv9e) has 10,000."""

MAX_DIRECTORY = 16 * 1024**2
MAX_PICKLE = 32 * 1024**2
"""Maximum size of the pickle in bytes. It holds no weights: the objects of the largest full state take 2 MB,
the metrics of 100,000 epochs 15 MB."""

MAX_BESIDE = 1024
"""Maximum size in bytes of an entry that describes how the file was written."""

MAX_PADDING = 64 * 1024
"""Maximum number of bytes between an entry's header and its data, which torch aligns to 64 bytes."""

# "x" skips what is not needed: versions, times, checksums, attributes, and the sizes in a header.
_HEADER = struct.Struct("<4s2x2H16x2H")
_ENTRY = struct.Struct("<4s4x2H8x2L4H6xL")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ4x2L4Q")
_LOCATOR64 = struct.Struct("<4sLQL")
_WIDE = {0xFFFF, 0xFFFFFFFF}  # these mean that the number is in the 64-bit record
_FLAGS = 0x0808  # names are in UTF-8, and sizes are repeated after the data

_BESIDE = {".format_version", ".storage_alignment", "byteorder", "version", ".data/serialization_id"}
_STORAGE = re.compile(r"data/(0|[1-9]\d{0,6})")


class Source(Protocol):
    """Random access to the bytes of a local file, or of an object in S3."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    def read(self, start: int, length: int) -> bytes:
        """Return the `length` bytes that start at `start`; all must be within the file."""


@dataclass(frozen=True)
class Archive:
    """The parts of a checkpoint that are inspected."""

    pickle: bytes
    """The pickled objects (data.pkl)."""
    storages: dict[str, int]
    """Size in bytes of each storage, by its key."""


@dataclass(frozen=True)
class _Entry:
    name: str
    """Path within the archive, beginning with the folder that holds all entries."""
    start: int
    """Where the entry's header starts in the file."""
    size: int
    """Size of the data in bytes."""
    end: int = 0
    """Start of the next entry, or of the directory."""

    @property
    def inner_name(self) -> str:
        return self.name.partition("/")[2]


def read_archive(source: Source) -> Archive:
    """Read the directory and the pickle of the checkpoint in `source`.

    Raises NotACheckpoint, TooLarge, and ForeignCode for archives that contain programs (TorchScript, .pt2).
    """
    entries = _read_entries(source)
    names = {entry.inner_name: entry for entry in entries}
    _check_names(entries, names)
    if "byteorder" in names and _read_content(source, names["byteorder"]) != b"little":
        raise NotACheckpoint("was saved on a big-endian machine; save it again on a little-endian one")
    if names["data.pkl"].size > MAX_PICKLE:
        raise TooLarge(f"has a pickle of more than {MAX_PICKLE // 1024**2} MB; no real checkpoint needs that")
    storages = {name[5:]: entry.size for name, entry in names.items() if name.startswith("data/")}
    return Archive(_read_content(source, names["data.pkl"]), storages)


def _check_names(entries: list[_Entry], names: dict[str, _Entry]) -> None:
    if len(names) != len(entries) or len({entry.name.partition("/")[0] for entry in entries}) != 1:
        raise NotACheckpoint(
            "names an entry twice, or holds several folders; it was not written by a program that saves "
            "checkpoints"
        )
    if any(name == "constants.pkl" or name.startswith(("code/", "models/")) for name in names):
        raise ForeignCode(
            "is a program (TorchScript or exported), not a checkpoint; give the .pt it was made from"
        )
    if any(name in _BESIDE and entry.size > MAX_BESIDE for name, entry in names.items()):
        raise _build_damage_error()
    if not all(name in _BESIDE or name == "data.pkl" or _STORAGE.fullmatch(name) for name in names):
        raise NotACheckpoint("holds entries that no checkpoint has; give a .pt that torch.save wrote")
    if "data.pkl" not in names:
        raise NotACheckpoint("is a ZIP archive, but not a checkpoint; give a .pt that torch.save wrote")


def _read_entries(source: Source) -> list[_Entry]:
    """Return all entries; refuse any that are out of order, overlap, or are further apart than padding."""
    if source.size < _END.size or source.read(0, 4) != b"PK\x03\x04":
        raise NotACheckpoint(
            "is not a checkpoint, or PyTorch before 1.6 saved it; give a .pt that a later version saved"
        )
    start, length, count = _find_directory(source)
    data = source.read(start, length)
    entries, at = [], 0
    for _ in range(count):
        entry, at = _read_entry(data, at)
        entries.append(entry)
    if at != length or not entries or entries[0].start != 0:
        raise _build_damage_error()
    ends = [*(entry.start for entry in entries[1:]), start]
    bounded = [replace(entry, end=end) for entry, end in zip(entries, ends, strict=True)]
    for entry in bounded:
        room = entry.end - entry.start - _HEADER.size - len(entry.name.encode()) - entry.size
        if not 0 <= room <= MAX_PADDING:
            raise NotACheckpoint(
                "has entries that overlap, or bytes between them; it was not written by a program that "
                "saves checkpoints"
            )
    return bounded


def _find_directory(source: Source) -> tuple[int, int, int]:
    """Return the directory's start, length and number of entries; its end record must be last in the file."""
    at = source.size - _END.size
    sign, disk, disk0, count_here, count, length, start, comment = _END.unpack(source.read(at, _END.size))
    if sign != b"PK\x05\x06" or disk or disk0 or count_here != count or comment:
        raise _build_damage_error()
    wide = at - _LOCATOR64.size - _END64.size
    if wide >= 0:
        record = source.read(wide, _END64.size + _LOCATOR64.size)
        if record[:4] == b"PK\x06\x06":
            narrow, (count, length, start), at = (count, length, start), _read_wide(record, wide), wide
            if any(a != b and a not in _WIDE for a, b in zip(narrow, (count, length, start), strict=True)):
                raise _build_damage_error()
    if length > MAX_DIRECTORY or count > MAX_ENTRIES:
        raise TooLarge(
            f"has more than {MAX_ENTRIES:,} entries, or more than {MAX_DIRECTORY // 1024**2} MB of entry "
            "names; no real checkpoint needs that"
        )
    if start + length != at:
        raise _build_damage_error()
    return start, length, count


def _read_wide(record: bytes, at: int) -> tuple[int, int, int]:
    sign, size, disk, disk0, count_here, count, length, start = _END64.unpack_from(record)
    locator, locator_disk, place, disks = _LOCATOR64.unpack_from(record, _END64.size)
    if (sign, size, disk, disk0, count_here) != (b"PK\x06\x06", _END64.size - 12, 0, 0, count):
        raise _build_damage_error()
    if (locator, locator_disk, place, disks) != (b"PK\x06\x07", 0, at, 1):
        raise _build_damage_error()
    return count, length, start


def _read_entry(data: bytes, at: int) -> tuple[_Entry, int]:
    if at + _ENTRY.size > len(data):
        raise _build_damage_error()
    fields = _ENTRY.unpack_from(data, at)
    sign, flags, method, packed, size, name_length, extra_length, comment, disk, start = fields
    name_at = at + _ENTRY.size
    extra_at = name_at + name_length
    if sign != b"PK\x01\x02" or flags & ~_FLAGS or comment or disk or extra_at + extra_length > len(data):
        raise _build_damage_error()
    if method != 0:
        raise NotACheckpoint(
            "is compressed, which checkpoints never are; unpack it, and save it again with torch.save"
        )
    wide = _widen_numbers(data[extra_at : extra_at + extra_length], [size, packed, start])
    if wide[0] != wide[1]:
        raise _build_damage_error()
    try:
        name = data[name_at:extra_at].decode("utf-8")
    except UnicodeDecodeError:
        raise _build_damage_error() from None
    return _Entry(name, wide[2], wide[0]), extra_at + extra_length


def _widen_numbers(extra: bytes, numbers: list[int]) -> list[int]:
    """Replace each number that does not fit in 32 bits with the next 64-bit number in the extra field."""
    missing = [index for index, number in enumerate(numbers) if number == 0xFFFFFFFF]
    if not missing and not extra:
        return numbers
    if (
        len(extra) < 4
        or struct.unpack_from("<2H", extra) != (1, len(extra) - 4)
        or len(extra) != 4 + 8 * len(missing)
    ):
        raise _build_damage_error()
    for index, wide in zip(missing, struct.unpack_from(f"<{len(missing)}Q", extra, 4), strict=True):
        numbers[index] = wide
    return numbers


def _read_content(source: Source, entry: _Entry) -> bytes:
    """Read the entry's data, which starts after its header; torch reads the same bytes."""
    raw = source.read(entry.start, entry.end - entry.start)
    sign, flags, method, name_length, extra_length = _HEADER.unpack_from(raw)
    start = _HEADER.size + name_length + extra_length
    if (sign, method, flags & ~_FLAGS) != (b"PK\x03\x04", 0, 0) or start + entry.size > len(raw):
        raise _build_damage_error()
    if raw[_HEADER.size : _HEADER.size + name_length] != entry.name.encode():
        raise _build_damage_error()
    return raw[start : start + entry.size]


def _build_damage_error() -> NotACheckpoint:
    return NotACheckpoint(
        "is damaged, or not a checkpoint: its layout is not that of torch.save; copy it again"
    )

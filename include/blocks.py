"""Reads files and responses in blocks, so that large ones do not fill the memory."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 1024**2
"""Bytes to read in one call; larger reads are not faster."""


def read_blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Yield the unread rest of a file in blocks."""
    while block := file.read(BLOCK):
        yield block


def parse_content_length(header: str) -> int | None:
    """Return the size in bytes that a server states; None if it states none, or no number of bytes."""
    return int(header) if header.isdecimal() and len(header) < 20 else None

"""Opens files that strangers wrote, no larger than they may be, and reads their lines one by one."""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, BinaryIO

from include.limits import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def open_regular(path: Path, most_bytes: int) -> BinaryIO:
    """Open a plain file for reading. Raises ValueError for anything else, and for one of more bytes."""
    # Without O_NONBLOCK, opening a named pipe would wait for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size <= most_bytes:
        return file
    file.close()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file; put a plain file there")
    raise ValueError(
        f"the file has {in_words(found.st_size)}, and at most {in_words(most_bytes)} are read; "
        "check what wrote it, or split it"
    )


def read_lines(path: Path, *, most_bytes: int, most_lines: int, longest: int) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text in UTF-8 and their numbers from 1, divided as `str.splitlines` does it.

    longest is in characters. Raises ValueError with one sentence for a file that is not such a text, or that
    exceeds a limit.
    """
    number = 0
    with io.TextIOWrapper(open_regular(path, most_bytes), "utf-8-sig") as text:
        for read in _read_lines(text, longest):
            if read is None:
                raise ValueError(
                    f"line {number + 1} has more than {longest:,} characters, the most that are read; "
                    "check what wrote the file"
                )
            for line in read.splitlines():
                number += 1
                if number > most_lines:
                    raise ValueError(
                        f"the file has more than {most_lines:,} lines, the most that are read; split it"
                    )
                yield number, line


def _read_lines(text: io.TextIOWrapper, longest: int) -> Iterator[str | None]:
    """Yield what lies between two line feeds; None for what is too long, and then nothing more."""
    try:
        while line := text.readline(longest + 2):
            if len(line.rstrip("\n")) > longest:
                yield None
                return
            yield line
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8; save it as UTF-8") from None

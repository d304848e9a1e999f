"""Opens untrusted files of limited size, and reads their lines one by one."""

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
    """Open a regular file of at most `most_bytes`. Raises ValueError for any other file, and OSErrors."""
    # Without O_NONBLOCK, opening a named pipe would block forever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    file = os.fdopen(descriptor, "rb")
    found = os.fstat(descriptor)
    if stat.S_ISREG(found.st_mode) and found.st_size <= most_bytes:
        return file
    file.close()
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("it is not a regular file; replace it with a regular file")
    raise ValueError(
        f"the file is {in_words(found.st_size)}, and the limit is {in_words(most_bytes)}; "
        "check the program that wrote it, or split it"
    )


def read_lines(path: Path, *, most_bytes: int, most_lines: int, longest: int) -> Iterator[tuple[int, str]]:
    """Yield the numbers (from 1) and lines of a UTF-8 text file, split as by `str.splitlines`.

    `longest` is in characters. Raises OSErrors, and ValueError with a one-sentence message for a file that
    exceeds a limit, or is not a regular file of UTF-8 text.
    """
    with open_regular(path, most_bytes) as file:
        yield from split_lines(file, most_lines=most_lines, longest=longest)


def split_lines(file: BinaryIO, *, most_lines: int, longest: int) -> Iterator[tuple[int, str]]:
    """Yield the numbers and lines of an open file, split in the same way as in `read_lines`."""
    number = 0
    with io.TextIOWrapper(file, "utf-8-sig") as text:
        while read := _read_line(text, longest + 2):
            if len(read.rstrip("\n")) > longest:
                raise ValueError(
                    f"line {number + 1} exceeds the limit of {longest:,} characters; check the program "
                    "that wrote the file"
                )
            for line in read.splitlines():
                number += 1
                if number > most_lines:
                    raise ValueError(f"the file exceeds the limit of {most_lines:,} lines; split it")
                yield number, line


def _read_line(text: io.TextIOWrapper, most: int) -> str:
    try:
        return text.readline(most)
    except UnicodeDecodeError:
        raise ValueError("it is not valid UTF-8; save it as UTF-8") from None

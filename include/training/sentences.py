"""Errors of Ultralytics and torch, said for the person who reads a task's log."""

from __future__ import annotations

import textwrap
import unicodedata


def in_one_line(error: BaseException) -> str:
    """Return what `error` says, in one line of at most 400 characters, without the emoji."""
    text = "".join(c for c in str(error) or type(error).__name__ if unicodedata.category(c) != "So")
    return textwrap.shorten(text.replace(" .", "."), 400, placeholder=" …")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the GPU or on the machine: torch and OpenCV have no common type for it."""
    said = str(error).lower()
    words = ("out of memory", "can't allocate memory", "cannot allocate memory", "insufficient memory")
    return isinstance(error, MemoryError) or any(word in said for word in words)

"""Errors of Ultralytics and torch, said for the person who reads a task's log."""

from __future__ import annotations

import unicodedata


def first_sentence(error: BaseException) -> str:
    """The first line of what `error` says, without the emoji."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = "".join(c for c in (lines or [type(error).__name__])[0] if unicodedata.category(c) != "So")
    return " ".join(text.split())


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on the GPU or on the machine; torch raises a RuntimeError for both."""
    text = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in text or "can't allocate memory" in text

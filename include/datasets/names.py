"""Names of files that come from elsewhere (zip entries, S3 keys): which are safe, and which are of no use."""

from __future__ import annotations

import re

_LONGEST_NAME = 255
_USELESS_SUFFIXES = (".cache", ".npy")


def safe_parts(name: str) -> tuple[str, ...]:
    """Split `name` into components that stay below any folder; ValueError says why they would not."""
    if "\\" in name:
        raise ValueError("it contains a backslash")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise ValueError("it is absolute")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise ValueError("it contains a control character")
    parts = tuple(part for part in name.rstrip("/").split("/") if part != ".")
    if ".." in parts:
        raise ValueError("it leads outside with '..'")
    if not parts or "" in parts:
        raise ValueError("it has an empty component")
    if any(len(part.encode("utf-8", "surrogateescape")) > _LONGEST_NAME for part in parts):
        raise ValueError(f"a component is longer than {_LONGEST_NAME} bytes")
    return parts


def is_useless(parts: tuple[str, ...]) -> bool:
    """Tell what is never trained on: hidden files, macOS's shadows, caches.

    Ultralytics unpickles a `*.cache` that lies beside labels and trains on an `*.npy` that lies beside its
    image: from a foreign archive the one runs foreign code, the other replaces the picture.
    """
    return (
        any(part.startswith(".") or part == "__MACOSX" for part in parts)
        or parts[-1].lower().endswith(_USELESS_SUFFIXES)
        or parts[-1] == "Thumbs.db"
    )

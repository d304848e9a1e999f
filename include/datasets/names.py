"""Names of files that come from elsewhere (zip entries, S3 keys): which are safe, and which are of no use."""

from __future__ import annotations

import re

from include.limits import FOLDER_DEPTH, NAME_BYTES, PATH_BYTES

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
    if any(_size(part) > NAME_BYTES for part in parts):
        raise ValueError(f"a component is longer than {NAME_BYTES} bytes")
    if _size(name) > PATH_BYTES:
        raise ValueError(f"it is longer than {PATH_BYTES} bytes")
    if len(parts) > FOLDER_DEPTH:
        raise ValueError(f"it lies more than {FOLDER_DEPTH} folders deep")
    return parts


def _size(name: str) -> int:
    return len(name.encode("utf-8", "surrogateescape"))


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

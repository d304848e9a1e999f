"""Untrusted file names (zip entries, S3 keys): which are safe, and which are ignored."""

from __future__ import annotations

import re

from include.datasets.checking.label_files import DEPTHS
from include.limits import FOLDER_DEPTH, NAME_BYTES, PATH_BYTES

_CACHES, _ARRAYS = ".cache", ".npy"


_PLAIN = re.compile(r"(?:[A-Za-z0-9_-][A-Za-z0-9_. -]*/)*[A-Za-z0-9_-][A-Za-z0-9_. -]*")
"""Short names of this form need no further checks; nearly all names in a large dataset have this form."""


def split_safely(name: str) -> tuple[str, ...]:
    """Split `name` into its components. Raises ValueError if it leads outside or breaks another rule."""
    if len(name) <= NAME_BYTES and name.count("/") < FOLDER_DEPTH and _PLAIN.fullmatch(name):
        return tuple(name.split("/"))
    if "\\" in name:
        raise ValueError("it contains a backslash")
    if name.startswith("/") or re.match(r"[A-Za-z]:", name):
        raise ValueError("it is an absolute path")
    if any(ord(character) < 32 or ord(character) == 127 for character in name):
        raise ValueError("it contains a control character")
    parts = tuple(part for part in name.rstrip("/").split("/") if part != ".")
    if ".." in parts:
        raise ValueError("it leads outside through '..'")
    if not parts or "" in parts:
        raise ValueError("it has an empty component")
    if any(_count_bytes(part) > NAME_BYTES for part in parts):
        raise ValueError(f"a component is longer than {NAME_BYTES} bytes")
    if _count_bytes(name) > PATH_BYTES:
        raise ValueError(f"it is longer than {PATH_BYTES} bytes")
    if len(parts) > FOLDER_DEPTH:
        raise ValueError(f"it is nested more than {FOLDER_DEPTH} folders deep")
    return parts


def _count_bytes(name: str) -> int:
    return len(name.encode("utf-8", "surrogateescape"))


def is_ignored(parts: tuple[str, ...]) -> bool:
    """Return whether a dataset's file is ignored: a hidden file, a cache, or a file of macOS or Windows.

    Ultralytics unpickles a `*.cache` file next to labels, and trains on an `*.npy` file instead of the image
    next to it. In an untrusted archive, a `*.cache` would run its author's code, and an `*.npy` would replace
    the image. An `*.npy` below a folder named depth is a depth map, and is not ignored.
    """
    return (
        any(part.startswith(".") or part == "__MACOSX" for part in parts)
        or parts[-1].lower().endswith(_CACHES)
        or (parts[-1].lower().endswith(_ARRAYS) and DEPTHS.folder not in parts[:-1])
        or parts[-1] == "Thumbs.db"
    )

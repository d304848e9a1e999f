"""Decoded images that Ultralytics stores next to the originals, as .npy files."""

from __future__ import annotations

from pathlib import Path


def is_whole(array: Path) -> bool:
    """Return whether the file is at least as large as its header says.

    A file that a killed process was writing may be smaller.
    """
    import numpy as np

    try:
        np.load(array, mmap_mode="r")
    except (ValueError, EOFError):
        return False
    return True

"""Images that Ultralytics keeps decoded beside the files, as .npy."""

from __future__ import annotations

from pathlib import Path


def is_whole(array: Path) -> bool:
    """Whether the file has the size that its header promises: a process may have been killed writing it."""
    import numpy as np

    try:
        np.load(array, mmap_mode="r")
    except (ValueError, EOFError):
        return False
    return True

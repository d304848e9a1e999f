"""Which pictures of a training are kept: the ones that tell most, each no larger than a page can show."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

log = logging.getLogger(__name__)

ORDER = (
    "results.png",
    "val_batch*_pred.jpg",
    "val_batch*_labels.jpg",
    "confusion_matrix_normalized.png",
    "confusion_matrix.png",
    "*PR_curve.png",
    "*F1_curve.png",
    "*P_curve.png",
    "*R_curve.png",
    "labels.jpg",
    "train_batch*.jpg",
)
"""What Ultralytics draws, the most telling first. Whatever else lies there is none of its pictures."""

MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg"}
NAME = r"^[A-Za-z0-9][A-Za-z0-9_]{0,60}\.(png|jpg)$"

LARGEST_PICTURE = 1_500_000
LARGEST_TOGETHER = 12_000_000
"""Bytes."""
MOST_PICTURES = 24

_SIDES = (1600, 1200, 800)
"""Pixels of the longer side, tried one after the other where a file is too large."""


def place_of(name: str) -> tuple[int, str] | None:
    """By which pictures are sorted; None for what is no picture of a training."""
    if not re.fullmatch(NAME, name):
        return None
    return next(((place, name) for place, kind in enumerate(ORDER) if fnmatch(name, kind)), None)


def media_type(name: str) -> str:
    """By the name's ending, which `place_of` has let pass."""
    return MEDIA_TYPES[name.rpartition(".")[2]]


def chosen(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the pictures to be kept, as many as fit, the most telling first."""
    placed = [(place, path) for path in folder.glob("*") if (place := place_of(path.name)) and path.is_file()]
    number = together = 0
    for _, path in sorted(placed):
        if number == MOST_PICTURES:
            return
        content = fitting(path)
        if content is not None and together + len(content) <= LARGEST_TOGETHER:
            number, together = number + 1, together + len(content)
            yield path.name, content


def fitting(path: Path) -> bytes | None:
    """Return the picture as it is, or smaller where it is too large; None if it is none, or not whole.

    Ultralytics draws in threads of its own, so that one may not be finished.
    """
    from PIL import Image, UnidentifiedImageError

    kind = "PNG" if path.suffix == ".png" else "JPEG"
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=[kind]) as picture:
            picture.load()
            if len(content) <= LARGEST_PICTURE:
                return content
            for side in _SIDES:
                picture.thumbnail((side, side))
                smaller = io.BytesIO()
                # A drawing has few colours; a PNG of a photograph would stay too large with all of them
                drawn = picture.convert("RGB").quantize(256) if kind == "PNG" else picture
                drawn.save(smaller, kind, optimize=True)
                if len(smaller.getvalue()) <= LARGEST_PICTURE:
                    return smaller.getvalue()
    # ImportError: Ultralytics, where it is loaded, wants one more decoder for what Pillow does not know
    except (OSError, SyntaxError, ImportError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        log.warning("%s is not kept: %s", path, error)
    return None

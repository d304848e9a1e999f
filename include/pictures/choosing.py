"""Choosing which pictures of a training run to keep: the most informative ones, within size limits."""

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
    "val_batch*_calibrated.jpg",
    "val_batch*_labels.jpg",
    "confusion_matrix_normalized.png",
    "confusion_matrix.png",
    "iou_bar_chart.png",
    "*PR_curve.png",
    "*F1_curve.png",
    "*P_curve.png",
    "*R_curve.png",
    "labels.jpg",
    "train_batch*.jpg",
)
"""Plots of Ultralytics, the most informative first; no other file counts as a picture."""

MEDIA_TYPES = {"png": "image/png", "jpg": "image/jpeg"}
NAME = r"^[A-Za-z0-9][A-Za-z0-9_]{0,60}\.(png|jpg)$"

LARGEST_PICTURE = 1_500_000
LARGEST_TOGETHER = 12_000_000
"""In bytes, as is LARGEST_PICTURE."""
MOST_PICTURES = 24

_SIDES = (1600, 1200, 800)
"""Pixels of the longer side, tried in this order if a file is too large."""


def rank_picture(name: str) -> tuple[int, str] | None:
    """Return the sort key of a picture, or None for a file that is not in ORDER."""
    if not re.fullmatch(NAME, name):
        return None
    return next(((rank, name) for rank, kind in enumerate(ORDER) if fnmatch(name, kind)), None)


def find_media_type(name: str) -> str:
    """Return the media type for the extension of a name that `rank_picture` accepts."""
    return MEDIA_TYPES[name.rpartition(".")[2]]


def choose_pictures(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield the name and bytes of each picture to keep: as many as fit, the most informative first."""
    files = (path for path in folder.glob("*") if path.is_file())
    ranked = [(rank, path) for path in files if (rank := rank_picture(path.name))]
    number = together = 0
    for _, path in sorted(ranked):
        if number == MOST_PICTURES:
            return
        content = shrink_picture(path)
        if content is not None and together + len(content) <= LARGEST_TOGETHER:
            number, together = number + 1, together + len(content)
            yield path.name, content


def shrink_picture(path: Path) -> bytes | None:
    """Return the picture, shrunk if too large; None if it is invalid, incomplete or still too large.

    Ultralytics draws in background threads, so a picture may be unfinished.
    """
    from PIL import Image

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
                # Plots need few colours; a PNG with photographs would stay too large with all of its colours.
                drawn = picture.convert("RGB").quantize(256) if kind == "PNG" else picture
                drawn.save(smaller, kind, optimize=True)
                if len(smaller.getvalue()) <= LARGEST_PICTURE:
                    return smaller.getvalue()
    # ImportError: for a format unknown to Pillow, Ultralytics imports another decoder, which may be missing.
    except (OSError, SyntaxError, ImportError, Image.DecompressionBombError) as error:
        log.warning("%s is not kept: %s", path, error)
    return None

"""Tells whether Ultralytics can read an image. Follows `check_image` of ultralytics/data/utils.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.datasets.samples import IMAGE_SUFFIXES

if TYPE_CHECKING:
    from pathlib import Path

_SMALLEST_SIDE = 10
_JPEG_END = b"\xff\xd9"


def image_problem(path: Path) -> str | None:
    """Say what is wrong with the image, or None.

    Opens and verifies it. It is decoded, too, where verifying alone finds nothing: formats other than PNG,
    and JPEG files that do not end with the end marker (cut off, or with something appended as some telephones
    do; the latter is fine).
    """
    from PIL import Image, UnidentifiedImageError

    try:
        if path.stat().st_size == 0:
            return "the file is empty (0 bytes); restore it"
        with Image.open(path) as image:
            kind, (width, height) = str(image.format).lower(), image.size
            image.verify()
        if kind not in IMAGE_SUFFIXES | {"jpeg2000"}:
            return (
                f"it is of format {kind.upper()}, which Ultralytics does not read; convert it to JPEG or PNG"
            )
        if min(width, height) < _SMALLEST_SIDE:
            return f"it is {width} x {height} pixels; each side must have at least {_SMALLEST_SIDE}"
        if kind not in {"png", "jpeg"} or (kind == "jpeg" and not _ends_well(path)):
            with Image.open(path) as image:
                image.load()
    except (UnidentifiedImageError, ImportError):
        # ImportError: once Ultralytics is imported, Pillow looks for a HEIF decoder when it does not know a
        # format.
        return "it is not an image, or of a format that cannot be read here; convert it to JPEG or PNG"
    except Exception as error:  # Pillow's decoders raise whatever they meet: SyntaxError, struct.error, …
        return f"the image is damaged ({error}); restore it"
    return None


def _ends_well(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-len(_JPEG_END), 2)
        return file.read() == _JPEG_END

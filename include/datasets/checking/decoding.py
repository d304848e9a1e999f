"""Decodes an image as a training run does, without importing Ultralytics.

Follows `imread` and `imread_unicode` of ultralytics/utils/patches.py; a test compares the results.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ORIENTATION, SIDEWAYS = 274, {5, 6, 7, 8}
"""The EXIF tag of an image's orientation, and its values for an image turned by 90 degrees."""

PILLOW_SUFFIXES = (".avif", ".heic", ".heif")
"""Suffixes of images that Ultralytics decodes with Pillow if Pillow can read them."""

_TIFF_SUFFIXES = (".tif", ".tiff")
_GREY, _COLOUR = 1, 3
_COLOUR_AXES = 3


def decode(content: bytes, name: str, channels: int, kind: str, *, for_classify: bool) -> np.ndarray | None:
    """Return the decoded pixels (rows, columns, channels); None if a training run could not decode them.

    The suffix of `name` determines how Ultralytics decodes the image. `channels` is the number of channels in
    the data YAML. `kind` is the format found in the content, in lower case. The task classify decodes
    differently. A JPEG is decoded at an eighth of its size, which finds the same problems in a third of the
    time. May raise the errors of both decoders.
    """
    import cv2
    import numpy as np

    flags, eighth = {
        _GREY: (cv2.IMREAD_GRAYSCALE, cv2.IMREAD_REDUCED_GRAYSCALE_8),
        _COLOUR: (cv2.IMREAD_COLOR, cv2.IMREAD_REDUCED_COLOR_8),
    }.get(channels, (cv2.IMREAD_UNCHANGED, cv2.IMREAD_UNCHANGED))
    fastest = eighth if kind == "jpeg" else flags
    suffix = f".{name.rpartition('.')[2].lower()}"
    raw = np.frombuffer(content, np.uint8)
    if suffix in PILLOW_SUFFIXES and (array := _decode_with_pillow(content, channels)) is not None:
        return array
    if for_classify and suffix not in PILLOW_SUFFIXES:
        return cv2.imdecode(raw, fastest)
    found = None
    if channels != _GREY and suffix in _TIFF_SUFFIXES:
        found = _decode_pages(raw, flags)
    if found is None:
        found = cv2.imdecode(raw, fastest)
    if found is not None and found.dtype == np.uint16:
        found = (found >> 8).astype(np.uint8)
    return found[..., None] if found is not None and found.ndim < _COLOUR_AXES else found


def _decode_pages(raw: np.ndarray, flags: int) -> np.ndarray | None:
    """Decode a TIFF that is in colour or has a page for each channel; return None for any other TIFF."""
    import cv2
    import numpy as np

    success, pages = cv2.imdecodemulti(raw, cv2.IMREAD_UNCHANGED)
    if not success:
        return None
    first: np.ndarray = pages[0]
    is_colour = first.ndim == _COLOUR_AXES
    if flags == cv2.IMREAD_UNCHANGED:
        if not is_colour and len(pages) > 1 and all(page.shape == first.shape for page in pages):
            return np.stack(pages, axis=2)
        return first if is_colour else None
    return first[..., :3] if is_colour else None


def _decode_with_pillow(content: bytes, channels: int) -> np.ndarray | None:
    import cv2
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with ImageOps.exif_transpose(Image.open(io.BytesIO(content))) as image:
            if channels == _GREY:
                return np.asarray(image.convert("L"))[..., None]
            return np.asarray(cv2.cvtColor(np.asarray(image.convert("RGB")), cv2.COLOR_RGB2BGR))
    except Exception:  # Ultralytics also ignores any error here
        return None

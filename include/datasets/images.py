"""Checks whether Ultralytics can read an image. Follows `check_image` of ultralytics/data/utils.py."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.datasets.disk import is_lack_of_memory
from include.datasets.samples import IMAGE_SUFFIXES
from include.limits import GIB, IMAGE_BYTES, IMAGE_PIXELS, in_words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_SMALLEST_SIDE = 10
_JPEG_END = b"\xff\xd9"

_BYTES_PER_PIXEL = {"jpeg2000": 24}
_USUAL_BYTES_PER_PIXEL = 8
"""Memory of the decoder, plus the four bytes of Pillow; OpenJPEG uses 32 bits for each channel."""


class _Room:
    """A memory budget for decoding, shared by threads: large images wait for room, small ones do not."""

    def __init__(self, size: int) -> None:
        self._size, self._taken = size, 0
        self._changed = threading.Condition()

    @contextmanager
    def reserve(self, wanted: int) -> Iterator[None]:
        wanted = min(wanted, self._size)  # an image larger than the whole budget is decoded alone
        with self._changed:
            self._changed.wait_for(lambda: self._taken + wanted <= self._size)
            self._taken += wanted
        try:
            yield
        finally:
            with self._changed:
                self._taken -= wanted
                self._changed.notify_all()


_ROOM = _Room(GIB * 3 // 2)


def find_image_problem(path: Path) -> str | None:
    """Return what is wrong with the image, or None.

    Opens and verifies it. Also decodes it where verification alone is not enough: for formats other than PNG,
    and for JPEG files without the marker at the end (truncated, or with data appended as some phones do; the
    latter is fine).
    """
    from PIL import Image, UnidentifiedImageError

    try:
        size = path.stat().st_size
        if size == 0:
            return "the file is empty (0 bytes); restore it"
        if size > IMAGE_BYTES:
            return f"the file has {in_words(size)}, and the limit is {in_words(IMAGE_BYTES)}; scale it down"
        # Verifying a PNG reads each of its chunks into memory.
        with _ROOM.reserve(size), Image.open(path) as image:
            kind, (width, height) = str(image.format).lower(), image.size
            image.verify()
        if kind not in IMAGE_SUFFIXES | {"jpeg2000"}:
            return f"its format is {kind.upper()}, which Ultralytics does not read; convert it to JPEG or PNG"
        if min(width, height) < _SMALLEST_SIDE:
            return f"it is {width} x {height} pixels; each side must have at least {_SMALLEST_SIDE}"
        if kind not in {"png", "jpeg"} or (kind == "jpeg" and not _has_end_marker(path)):
            pixel = _BYTES_PER_PIXEL.get(kind, _USUAL_BYTES_PER_PIXEL)
            with _ROOM.reserve(width * height * pixel), Image.open(path) as image:
                image.load()
    except (UnidentifiedImageError, ImportError):
        # ImportError: once Ultralytics is imported, Pillow tries to load a HEIF decoder for unknown formats.
        return "it is not an image, or its format cannot be read here; convert it to JPEG or PNG"
    except Image.DecompressionBombError:
        return (
            f"it has more than {IMAGE_PIXELS // 10**6} megapixels, which is the limit; scale it down or cut "
            "it into tiles"
        )
    except Exception as error:  # Pillow's decoders raise all kinds of errors: SyntaxError, struct.error, …
        if is_lack_of_memory(error):
            return "decoding it takes more memory than a check may use; scale it down or cut it into tiles"
        return f"the image is damaged ({error}); restore it"
    return None


def _has_end_marker(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-len(_JPEG_END), 2)
        return file.read() == _JPEG_END

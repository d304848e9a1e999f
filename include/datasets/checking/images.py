"""Checks whether Ultralytics can train on an image.

Follows `check_image` of ultralytics/data/utils.py, which opens images with Pillow, and `imread` of
ultralytics/utils/patches.py, which decodes them with OpenCV. This check can therefore decode exactly
the images that a training run can.
"""

from __future__ import annotations

import hashlib
import io
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets.checking.decoding import ORIENTATION, PILLOW_SUFFIXES, SIDEWAYS, decode
from include.datasets.checking.label_files import IMAGE_SUFFIXES
from include.datasets.disk import is_lack_of_memory, is_passing
from include.limits import GIB, IMAGE_BYTES, IMAGE_PIXELS, NAME_BYTES, in_words

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from PIL.Image import Image

    from include.datasets.checking.kinds import KindName

_SMALLEST_SIDE = 10
_JPEG_END = b"\xff\xd9"
_REPAIRED_NAME = NAME_BYTES - 34
"""Longest name, in bytes, of a JPEG that Ultralytics can rewrite: the name of its temporary file has 34 bytes
more (`_replace_image` of ultralytics/data/utils.py)."""

_OPENCV_NO_MEMORY = -4
"""The code of OpenCV's error StsNoMem."""

_COLOUR = 3
_BYTES_PER_PIXEL = {"jpeg2000": 24}
_USUAL_BYTES_PER_PIXEL = 8
"""Memory per pixel that both decoders use together. JPEG 2000 needs more, because OpenJPEG uses 32 bits for
each channel."""


class UnusableImage(ValueError):
    """An image, mask or depth map that training cannot use."""

    def __init__(self, message: str, kind: KindName = "image") -> None:
        super().__init__(message)
        self.kind = kind
        """The kind of the finding that reports the problem."""


@dataclass(frozen=True)
class ImageFacts:
    """An image that training can use."""

    sha256: str
    """Hash of the file."""
    width: int
    """In pixels, as the image is displayed."""
    height: int
    """In pixels, as the image is displayed."""


@dataclass(frozen=True)
class ImageRules:
    """How a training run reads its images."""

    channels: int = _COLOUR
    """Number of channels in the data YAML."""
    for_classify: bool = False
    """Whether the images are for task classify, which decodes them differently."""


class _Room:
    """A memory budget that threads share for decoding: each waits until there is room for its image."""

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


def reserve_pixels(width: int, height: int) -> AbstractContextManager[None]:
    """Wait until there is memory to decode an image of this size."""
    return _ROOM.reserve(width * height * _USUAL_BYTES_PER_PIXEL)


def read_image(path: Path, name: str, rules: ImageRules) -> ImageFacts:
    """Read and decode the image in the same way as a training run.

    `name` is the name under which Ultralytics finds the image; its suffix determines how the image is
    decoded. Raises UnusableImage, and OSErrors after which a retry may succeed.
    """
    _require_size(path)
    with _translate_decoder_errors():
        kind, width, height = _open(path)
        # Reserve all memory in one step: threads that hold some memory while waiting for more could deadlock.
        pixels = width * height * _BYTES_PER_PIXEL.get(kind, _USUAL_BYTES_PER_PIXEL)
        with _ROOM.reserve(path.stat().st_size + pixels):
            content = path.read_bytes()
            sha256 = hashlib.sha256(content).hexdigest()
            if kind == "jpeg" and not content.endswith(_JPEG_END):
                _require_short(name)
                channels, width, height = _repair(content, rules)
            else:
                channels, width, height = _decode(content, name, kind, rules)
    if rules.channels not in {1, _COLOUR} and channels != rules.channels:
        raise UnusableImage(
            f"it has {channels} channels, but the data YAML says channels: {rules.channels}; convert the "
            "image, or correct the value of channels",
            "decode",
        )
    return ImageFacts(sha256, width, height)


def is_too_long_to_repair(name: str) -> bool:
    """Return whether the file's name is too long for Ultralytics to rewrite the image if it has to."""
    return len(name.rpartition("/")[2].encode("utf-8", "surrogateescape")) > _REPAIRED_NAME


def verify_image(path: Path) -> tuple[int, int]:
    """Verify an image without decoding it; return the width and height given in the file.

    Raises UnusableImage, and OSErrors after which a retry may succeed.
    """
    _require_size(path)
    with _translate_decoder_errors():
        _, width, height = _open(path)
    return width, height


def _find_displayed_size(image: Image) -> tuple[int, int]:
    """Return the width and height of an open image as displayed, after any rotation by its EXIF data."""
    try:
        is_sideways = image.getexif().get(ORIENTATION) in SIDEWAYS
    except Exception:  # Ultralytics also ignores invalid EXIF data
        is_sideways = False
    width, height = image.size
    return (height, width) if is_sideways else (width, height)


def _require_size(path: Path) -> None:
    try:
        size = path.stat().st_size
    except OSError as error:
        if is_passing(error):
            raise
        raise UnusableImage(f"it cannot be read: {error.strerror}; restore it") from error
    if size == 0:
        raise UnusableImage("the file is empty (0 bytes); restore it")
    if size > IMAGE_BYTES:
        raise UnusableImage(
            f"the file is {in_words(size)}, and the limit is {in_words(IMAGE_BYTES)}; scale it down"
        )


@contextmanager
def _translate_decoder_errors() -> Iterator[None]:
    """Turn the errors of decoders into UnusableImage."""
    from PIL import UnidentifiedImageError
    from PIL.Image import DecompressionBombError

    try:
        yield
    except UnusableImage:
        raise
    except (UnidentifiedImageError, ImportError):
        # ImportError: once Ultralytics is imported, Pillow tries to load a HEIF decoder for unknown formats.
        raise UnusableImage(
            "it is not an image, or its format cannot be read on this machine; convert it to JPEG or PNG"
        ) from None
    except DecompressionBombError:
        raise UnusableImage(
            f"it exceeds the limit of {IMAGE_PIXELS // 10**6} megapixels; scale it down or cut it into tiles"
        ) from None
    except Exception as error:  # Pillow's decoders raise all kinds of errors: SyntaxError, struct.error, …
        if is_passing(error):
            raise
        if is_lack_of_memory(error) or getattr(error, "code", None) == _OPENCV_NO_MEMORY:
            raise UnusableImage(
                "decoding it takes more memory than a check may use; scale it down or cut it into tiles"
            ) from None
        raise UnusableImage(f"the image is damaged ({error}); restore it") from None


def _open(path: Path) -> tuple[str, int, int]:
    """Verify the image with Pillow; return its format, width and height."""
    from PIL import Image

    # Verifying a PNG reads each of its chunks into memory.
    with _ROOM.reserve(path.stat().st_size), Image.open(path) as image:
        kind, (width, height) = str(image.format).lower(), image.size
        image.verify()
    if kind not in IMAGE_SUFFIXES | {"jpeg2000"}:
        raise UnusableImage(
            f"its format is {kind.upper()}, which Ultralytics does not read; convert it to JPEG or PNG"
        )
    if min(width, height) < _SMALLEST_SIDE:
        raise UnusableImage(f"it has {width} x {height} pixels; each side needs at least {_SMALLEST_SIDE}")
    return kind, width, height


def _require_short(name: str) -> None:
    if is_too_long_to_repair(name):
        raise UnusableImage(
            f"its name exceeds {_REPAIRED_NAME} bytes, so Ultralytics cannot rewrite it, as it does with "
            "JPEGs that lack an end marker or have data behind it; shorten the name, or save the image again"
        )


def _repair(content: bytes, rules: ImageRules) -> tuple[int, int, int]:
    """Decode a JPEG that does not end with the end marker, and return its channels, width and height.

    Such an image is truncated, or has data after its end, which some phones append. Ultralytics rewrites it
    with Pillow, and trains on the result.
    """
    from PIL import Image

    with Image.open(io.BytesIO(content)) as image:
        image.load()
        channels = len(image.getbands()) if rules.channels not in {1, _COLOUR} else rules.channels
        return channels, *_find_displayed_size(image)


def _decode(content: bytes, name: str, kind: str, rules: ImageRules) -> tuple[int, int, int]:
    """Decode as in training; return the number of channels, the width and the height."""
    from PIL import Image

    array = decode(content, name, rules.channels, kind, for_classify=rules.for_classify)
    if array is None:
        by = "Pillow" if name.lower().endswith(PILLOW_SUFFIXES) else "OpenCV"
        raise UnusableImage(
            f"it is a {kind.upper()} that {by} cannot decode, and training uses {by}; convert it to JPEG or "
            "PNG, or restore it if it is damaged",
            "decode",
        )
    if array.dtype.itemsize != 1:
        raise UnusableImage(
            f"it is a {kind.upper()} with pixels of type {array.dtype}; Ultralytics trains on 8 or 16 bits "
            "per channel: convert it",
            "decode",
        )
    channels = array.shape[2] if array.ndim > 2 else 1
    if rules.channels == _COLOUR and channels != _COLOUR:
        raise UnusableImage(
            f"it is a {kind.upper()} with {channels} channels, which OpenCV cannot turn into a colour image; "
            "convert it to JPEG or PNG",
            "decode",
        )
    if kind == "jpeg":  # decoded at a fraction of its size
        with Image.open(io.BytesIO(content)) as image:
            return channels, *_find_displayed_size(image)
    return channels, array.shape[1], array.shape[0]

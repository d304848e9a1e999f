"""Decodes COCO's run-length encoded (RLE) masks without pycocotools, and finds their outlines.

A run-length encoding counts pixels column by column: first those outside the object, then those inside, and
so on in turn. `counts` is a list of these numbers, or a string that packs them: five bits per character, the
lowest bits first, with a sign. From the fourth number on, each is stored as the difference from the number
two places earlier (rleToString in maskApi.c of cocoapi).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

_FIRST = 48
"""The character that represents zero: '0'."""
_BITS, _MORE, _SIGN = 0x1F, 0x20, 0x10
_LARGEST = 2**40


def decode_mask(counts: Any, height: int, width: int) -> np.ndarray:
    """Return the mask as uint8 of shape (height, width). Raises ValueError for invalid counts."""
    import numpy as np

    runs = _unpack(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise ValueError("its counts are neither an RLE string nor a list of non-negative whole numbers")
    if sum(runs) != height * width:
        raise ValueError(f"its counts add up to {sum(runs):,} pixels instead of {height * width:,}")
    values = np.arange(len(runs), dtype=np.uint32).astype(np.uint8) & 1
    return np.repeat(values, runs).reshape(width, height).T


def outline_mask(mask: np.ndarray) -> list[list[int]]:
    """Return the outer outlines of a mask as lists of x, y, x, y, … in pixels, as Ultralytics does."""
    import cv2
    import numpy as np

    contours = cv2.findContours(np.ascontiguousarray(mask), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
    return [contour.ravel().tolist() for contour in contours]


def _unpack(text: str) -> list[int]:
    """Return the numbers that a compressed RLE string contains. Raises ValueError."""
    runs: list[int] = []
    number = shift = 0
    for character in text:
        code = ord(character) - _FIRST
        if not 0 <= code < 2 * _MORE:
            raise ValueError("its counts are not an RLE string")
        number |= (code & _BITS) << shift
        shift += 5
        if code & _MORE:
            if shift > 60:
                raise ValueError("its counts are not an RLE string: a number has no end")
            continue
        if code & _SIGN:
            number -= 1 << shift
        if len(runs) > 2:
            number += runs[-2]
        if not 0 <= number <= _LARGEST:
            raise ValueError("its counts are not an RLE string: a number is negative or huge")
        runs.append(number)
        number = shift = 0
    if shift:
        raise ValueError("its counts are not an RLE string: the text ends within a number")
    return runs

"""Outlines of COCO's objects, as `convert_coco` of ultralytics/data/converter.py writes them.

An object has polygons or a run-length encoded (RLE) mask, which is decoded here without pycocotools. A
run-length encoding counts pixels column by column: first those outside the object, then those inside, and so
on in turn. `counts` is a list of these numbers, or a string that packs them: five bits per character, the
lowest bits first, with a sign. From the fourth number on, each is stored as the difference from the number
two places earlier (rleToString in maskApi.c of cocoapi).
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from include.limits import LABEL_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

_ROWS_AT_ONCE = 256
_LARGEST_PIXEL = 1e9
_FIRST = 48
"""The character of a packed encoding that represents zero: '0'."""
_BITS, _MORE, _SIGN = 0x1F, 0x20, 0x10
_LARGEST_RUN = 2**40


def outline_object(segmentation: Any, height: int, width: int) -> list[float] | None:
    """Return one outline of an object as x, y, x, y, … in fractions of the image.

    Several polygons are joined into one. Returns None if there is no usable polygon, for example in a mask
    that does not have the image's size. Raises ValueError for a mask with invalid counts, for too many
    points, and for impossible coordinates.
    """
    import numpy as np

    polygons = _find_polygons(segmentation, height, width)
    if not polygons:
        return None
    if sum(map(len, polygons)) >= LABEL_COLUMNS:
        raise ValueError(
            f"its outline has {sum(map(len, polygons)) // 2:,} points, more than the limit of "
            f"{LABEL_COLUMNS // 2:,}; simplify it"
        )
    points = np.concatenate(_join(polygons)) if len(polygons) > 1 else np.array(polygons[0]).reshape(-1, 2)
    return list((points / np.array([width, height])).ravel().tolist())


def _find_polygons(segmentation: Any, height: int, width: int) -> list[list[float]]:
    if isinstance(segmentation, dict) and segmentation.get("size") == [height, width]:
        segmentation = _outline_mask(decode_mask(segmentation.get("counts"), height, width))
    if not isinstance(segmentation, list):
        return []
    polygons = [polygon for polygon in segmentation if _is_polygon(polygon)]
    if not all(is_pixel(number) for polygon in polygons for number in polygon):
        raise ValueError("its outline contains a coordinate that is not finite, or is impossibly large")
    return polygons


def is_pixel(number: Any) -> bool:
    """Return whether the value can be a coordinate or a length in pixels; also False for NaN and infinity."""
    return isinstance(number, int | float) and abs(number) <= _LARGEST_PIXEL


def _is_polygon(given: Any) -> bool:
    return (
        isinstance(given, list)
        and len(given) >= 6
        and not len(given) % 2
        and all(isinstance(number, int | float) for number in given)
    )


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


def _outline_mask(mask: np.ndarray) -> list[list[int]]:
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
        if not 0 <= number <= _LARGEST_RUN:
            raise ValueError("its counts are not an RLE string: a number is negative or huge")
        runs.append(number)
        number = shift = 0
    if shift:
        raise ValueError("its counts are not an RLE string: the text ends within a number")
    return runs


def _join(polygons: Sequence[Sequence[float]]) -> list[np.ndarray]:
    """Join polygons into one outline through their closest points, as `merge_multi_segment` does.

    The outline follows part of each polygon to the next polygon, and then returns along the remaining parts.
    """
    import numpy as np

    shapes = [np.array(polygon).reshape(-1, 2) for polygon in polygons]
    doors: list[list[int]] = [[] for _ in shapes]
    for number, (before, after) in enumerate(pairwise(shapes)):
        out, into = _find_closest_points(before, after)
        doors[number].append(out)
        doors[number + 1].append(into)
    last = len(shapes) - 1
    joined = []
    for number, placed in enumerate(doors):
        own = placed
        if len(own) == 2 and own[0] > own[1]:
            own = [len(shapes[number]) - 1 - door for door in own]
            shapes[number] = shapes[number][::-1]
        rolled = np.roll(shapes[number], -own[0], axis=0)
        shapes[number] = np.concatenate([rolled, rolled[:1]])
        is_middle = number not in {0, last}
        joined.append(shapes[number][: own[1] - own[0] + 1] if is_middle else shapes[number])
    joined += [
        shapes[number][abs(doors[number][1] - doors[number][0]) :] for number in range(last - 1, 0, -1)
    ]
    return joined


def _find_closest_points(before: np.ndarray, after: np.ndarray) -> tuple[int, int]:
    """Return the indexes of the closest points; if several pairs are equally close, those of the first.

    The result is that of Ultralytics' `min_index`, which takes more memory.
    """
    import numpy as np

    best, found = math.inf, (0, 0)
    for start in range(0, len(before), _ROWS_AT_ONCE):
        rows = before[start : start + _ROWS_AT_ONCE]
        distances = ((rows[:, None, :] - after[None, :, :]) ** 2).sum(-1)
        index = int(np.argmin(distances))
        if (distance := distances.ravel()[index]) < best:
            row, column = divmod(index, len(after))
            best, found = distance, (start + row, column)
    return found

"""Faster versions of Ultralytics' training transforms, which compute the same pixels.

Each class replaces one of Ultralytics' and inherits the code that transforms the labels. Only the pixels of
8-bit colour images are computed differently, by OpenCV functions that give the same bits; tests compare them.
Any other image is left to Ultralytics' code.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from ultralytics.data.augment import (
    CopyPaste,
    DepthFormat,
    Format,
    Mosaic,
    RandomFlip,
    RandomHSV,
    RandomPerspective,
    SemanticFormat,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_GREY = 114
"""The value with which Ultralytics fills the parts of a mosaic that no image covers."""

_MARGIN = 2
"""Number of pixels added on each side of the computed region: one for interpolation, one for rounding."""

_FLIP_CODES = {"vertical": 0, "horizontal": 1}


class _Canvas:
    """A mosaic of four colour images that has yet to be painted.

    Until then, it has only a shape and a dtype. Between Mosaic and RandomPerspective, Ultralytics reads only
    the shape of an image.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, side: int, layout: list[dict[str, Any]]) -> None:
        self.shape = side, side, 3
        self._tiles = [(place["labels_patch"]["img"], place) for place in layout]

    def paint(self, canvas: np.ndarray, rows: slice, columns: slice) -> None:
        """Paint these rows and columns of `canvas`, shape (height, width, 4); the last channel is padding."""
        canvas[rows, columns] = _GREY
        for image, place in self._tiles:
            left, right = max(place["x1a"], columns.start), min(place["x2a"], columns.stop)
            top, bottom = max(place["y1a"], rows.start), min(place["y2a"], rows.stop)
            if left < right and top < bottom:
                dx, dy = place["padw"], place["padh"]
                part = image[top - dy : bottom - dy, left - dx : right - dx]
                cv2.cvtColor(part, cv2.COLOR_BGR2BGRA, dst=canvas[top:bottom, left:right])


def _is_colour(image: np.ndarray | _Canvas) -> bool:
    """Return whether an image has three channels of 8 bits."""
    return image.shape[-1] == 3 and image.dtype == np.uint8


class UnpaintedMosaic(Mosaic):
    """Leaves painting to the FourChannelWarp that follows, which paints only the visible part."""

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        images = [place["labels_patch"]["img"] for place in params["layout"]] if self.n == 4 else []
        if not images or not all(map(_is_colour, images)):
            return super().apply_image(labels, params)
        labels["img"] = _Canvas(self.imgsz * 2, params["layout"])
        return labels


class FourChannelWarp(RandomPerspective):
    """Adds an unused fourth channel to a colour image, so that OpenCV warps it in less than half the time."""

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        image = labels["img"]
        if not _is_colour(image):
            return super().apply_image(labels, params)
        height, width = image.shape[:2]
        rows, columns = slice(0, height), slice(0, width)
        if not self.perspective:
            rows, columns = find_seen(params["M"][:2], params["size"], (height, width))
        labels["img"] = padded = np.empty((height, width, 4), image.dtype)
        if isinstance(image, _Canvas):
            image.paint(padded, rows, columns)
        else:
            cv2.cvtColor(image[rows, columns], cv2.COLOR_BGR2BGRA, dst=padded[rows, columns])
        labels = super().apply_image(labels, params)
        labels["img"] = cv2.cvtColor(labels["img"], cv2.COLOR_BGRA2BGR)
        return labels


def find_seen(matrix: np.ndarray, size: tuple[int, int], shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return which rows and columns of an image a warp by `matrix` reads: at least one of each.

    `matrix` is affine, shape (2, 3); `size` is the (width, height) of the result, `shape` the (height, width)
    of the image.
    """
    inverse = cv2.invertAffineTransform(matrix.astype(np.float64))  # as cv2.warpAffine computes it
    columns, rows = (
        _find_span(row, size, end) for row, end in zip(inverse.tolist(), shape[::-1], strict=True)
    )
    return rows, columns


def _find_span(row: list[float], size: tuple[int, int], end: int) -> slice:
    """Return which part of an axis of length `end` the warp reads; `row` is the axis's row of the inverse."""
    across, down, origin = row[0] * size[0], row[1] * size[1], row[2]
    low = origin + min(across, 0) + min(down, 0) - _MARGIN
    high = origin + max(across, 0) + max(down, 0) + _MARGIN
    start = int(min(max(low, 0), end - 1))
    return slice(start, int(min(max(high, start), end - 1)) + 1)


class PlanarHSV(RandomHSV):
    """Looks up each channel separately, which OpenCV does faster than all three together."""

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any] | None = None) -> dict[str, Any]:
        image = labels["img"]
        if not _is_colour(image) or not (self.hgain or self.sgain or self.vgain):
            return super().apply_image(labels, params)
        hue, saturation, value = np.random.uniform(-1, 1, 3) * [self.hgain, self.sgain, self.vgain]
        levels = np.arange(256.0)
        tables = [(levels + hue * 180) % 180, levels * (saturation + 1), levels * (value + 1)]
        planes = cv2.split(cv2.cvtColor(image, cv2.COLOR_BGR2HSV))
        changed = [
            cv2.LUT(plane, table.clip(0, 255).astype(np.uint8))
            for plane, table in zip(planes, tables, strict=True)
        ]
        cv2.cvtColor(cv2.merge(changed), cv2.COLOR_HSV2BGR, dst=image)
        return labels


class CopyingFlip(RandomFlip):
    """Flips a colour image in memory. A flipped view, as Ultralytics makes it, is slow to copy later."""

    def apply_image(self, labels: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
        if not params["flip"] or not _is_colour(labels["img"]):
            return super().apply_image(labels, params)
        labels["img"] = cv2.flip(labels["img"], _FLIP_CODES[params["direction"]])
        return labels


class PlanarFormat(Format):
    """Passes colour images to Format as planes in the tensor's order, so that Format need not copy them.

    Formats images with boxes, outlines or keypoints.
    """

    def _format_img(self, img: np.ndarray) -> Tensor:
        if _is_colour(img):
            planes = np.empty((3, *img.shape[:2]), img.dtype)
            blue_first = planes[::-1]
            cv2.split(np.ascontiguousarray(img), list(blue_first))
            img = blue_first.transpose(1, 2, 0)
        return super()._format_img(img)


class PlanarSemanticFormat(PlanarFormat, SemanticFormat):
    """Formats images with a class for each pixel."""


class PlanarDepthFormat(PlanarFormat, DepthFormat):
    """Formats images with a distance for each pixel."""


FASTER: dict[type, type] = {
    RandomPerspective: FourChannelWarp,
    RandomHSV: PlanarHSV,
    RandomFlip: CopyingFlip,
    Format: PlanarFormat,
    SemanticFormat: PlanarSemanticFormat,
    DepthFormat: PlanarDepthFormat,
}
"""The class that replaces each transform of Ultralytics, except Mosaic, which `speed_up` handles itself."""


def find_transforms(transform: Any) -> Iterator[Any]:
    """Yield every transform within `transform`, including those applied to the images that it mixes in."""
    yield transform
    for inner in [*getattr(transform, "transforms", ()), getattr(transform, "pre_transform", None)]:
        if inner is not None:
            yield from find_transforms(inner)


def speed_up(transforms: Any) -> None:
    """Replace Ultralytics' training transforms within `transforms` with faster ones."""
    found = list(find_transforms(transforms))
    for transform in found:
        if type(transform) in FASTER:
            transform.__class__ = FASTER[type(transform)]
    for transform in found:
        steps = getattr(transform, "transforms", ())
        # By default, a CopyPaste that is never applied follows Mosaic.
        active = [step for step in steps if not (isinstance(step, CopyPaste) and step.p == 0)]
        for mosaic, next_one in pairwise(active):
            if type(mosaic) is Mosaic and isinstance(next_one, FourChannelWarp):
                mosaic.__class__ = UnpaintedMosaic

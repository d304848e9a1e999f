"""Draws labels with a value for each pixel (masks and depth maps), and chooses the colours of classes."""

from __future__ import annotations

import colorsys
from typing import TYPE_CHECKING, Any

from include.datasets.checking.depths import open_depths
from include.datasets.checking.masks import IGNORED, read_mask

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    Picture = Any
    """An image as in OpenCV: a byte array of shape (height, width, 3), blue first."""

_FILLED = 0.6
"""Opacity of the colours of a mask."""

_GOLDEN_RATIO = 0.618034
"""The step of the hue from class to class, which keeps the colours of neighbouring classes apart."""


def choose_colour(class_id: int) -> tuple[int, int, int]:
    """Return the colour of a class, dark enough for white text, in OpenCV's order: blue, green, red."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN_RATIO % 1, 0.85, 0.75)
    return round(blue * 255), round(green * 255), round(red * 255)


def draw_mask(picture: Picture, mask: Path, mapping: Mapping[int, int]) -> Picture:
    """Return the picture with the classes of its mask in colours; ignored pixels stay unchanged.

    `mapping` maps the ids in the mask to class ids; an id that is not in it is itself the class id.
    """
    import cv2
    import numpy as np

    ids = read_mask(mask)
    if ids is None:
        return picture
    size = picture.shape[1], picture.shape[0]
    meant = np.array([mapping.get(number, number) for number in range(256)], np.uint8)
    ids = meant[cv2.resize(ids.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)]
    coloured = picture.copy()
    for class_id in np.unique(ids):
        if class_id != IGNORED:
            coloured[ids == class_id] = choose_colour(int(class_id))
    return cv2.addWeighted(coloured, _FILLED, picture, 1 - _FILLED, 0)


def draw_depths(picture: Picture, depths: Path, suffix: str) -> Picture:
    """Return the picture beside its depth map: near pixels are red, far ones blue, and unknown ones black."""
    import cv2
    import numpy as np

    found = open_depths(depths, suffix)
    height, width = picture.shape[0] // 2 or 1, picture.shape[1] // 2 or 1
    # The map is sampled rather than resized, because it may be far larger than the picture.
    rows = np.linspace(0, found.shape[0] - 1, height).astype(int)
    columns = np.linspace(0, found.shape[1] - 1, width).astype(int)
    metres = np.asarray(found[rows][:, columns], dtype=np.float64)
    known = np.isfinite(metres) & (metres > 0)
    near, far = np.percentile(metres[known], [2, 98]) if known.any() else (0, 0)
    nearness = 1 - np.clip((np.where(known, metres, near) - near) / max(far - near, 1e-9), 0, 1)
    shown = (nearness * 255).astype(np.uint8)
    coloured = cv2.applyColorMap(shown, cv2.COLORMAP_TURBO)
    coloured[~known] = 0
    small = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.hstack([small, coloured])

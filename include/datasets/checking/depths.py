"""Checks the depth maps of task depth. Follows `verify_image_depth` and `load_depth` of Ultralytics.

A map is a 16-bit PNG or an array of floating-point numbers (.npy). The numbers in an array are metres; those
in a PNG are divided by `depth_scale` to give metres. A pixel that is zero, negative, infinite or not a number
has no known distance.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.datasets.checking.images import UnusableImage
from include.datasets.disk import is_passing
from include.limits import IMAGE_PIXELS
from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

_NEAREST = 0.001
"""In metres. Ultralytics' loss and metrics ignore pixels at this distance or nearer."""

_FEWEST_PIXELS = 10
"""An image with fewer known distances is used neither in training nor in validation."""

_SCALE = 1000
_FARTHEST = 100.0
"""In metres: the default of Ultralytics' max_depth."""

_STRETCH = 0.02
"""Maximum difference between the logarithms of the aspect ratios of map and image."""

_ROWS = 256
_PNG_MODES = {"I", "I;16"}


@dataclass(frozen=True)
class DepthRules:
    """The rules that depth maps must follow."""

    scale: float
    """The divisor that converts the values in a PNG to metres."""
    farthest: float
    """In metres; validation ignores pixels at this distance or beyond."""


def build_depth_rules(extras: Mapping[str, Any]) -> DepthRules:
    """Return the rules for a dataset whose data YAML has these keys."""
    return DepthRules(extras.get("depth_scale", _SCALE), extras.get("max_depth") or _FARTHEST)


def check_depth(path: Path, suffix: str, size: tuple[int, int], rules: DepthRules) -> tuple[bool, bool]:
    """Return whether training can use a depth map, and whether validation can. Raises UnusableImage.

    Training needs enough pixels with a known distance; validation measures only those nearer than
    `rules.farthest`. `suffix` determines the format of the map; `size` is the width and height of the image.
    """
    found = open_depths(path, suffix)
    height, width = found.shape
    if abs(math.log((width / height) / (size[0] / size[1]))) > _STRETCH:
        shapes = f"{width} x {height} pixels, its image {size[0]} x {size[1]}"
        raise UnusableImage(f"the map has {shapes}; give both the same aspect ratio")
    known = measurable = 0
    for start in range(0, height, _ROWS):  # in pieces, so that a large map takes little memory
        rows = found[start : start + _ROWS].astype("float32")
        metres = rows if suffix == ".npy" else rows / rules.scale
        known += int(((metres > _NEAREST) & (metres < math.inf)).sum())
        measurable += int(((metres > _NEAREST) & (metres < rules.farthest)).sum())
    return known >= _FEWEST_PIXELS, measurable >= _FEWEST_PIXELS


def explain_immeasurable(extras: Mapping[str, Any]) -> str:
    """Explain why validation measures nothing although the maps have distances."""
    return (
        f"every distance is {build_depth_rules(extras).farthest:g} m or more, and validation ignores such "
        "pixels; correct depth_scale or raise max_depth in the data YAML, or convert .npy files to metres"
    )


def open_depths(path: Path, suffix: str) -> np.ndarray:
    """Return the numbers in a depth map. `suffix` determines its format. Raises UnusableImage."""
    return _open_array(path) if suffix == ".npy" else _open_png(path)


def _open_array(path: Path) -> np.ndarray:
    import numpy as np

    try:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a malformed header makes NumPy raise all kinds of errors
        if is_passing(error):
            raise
        problem = f"it is not an array in NumPy's format ({type(error).__name__}); save it with numpy.save"
        raise UnusableImage(problem) from None
    if not isinstance(found, np.ndarray) or found.ndim != 2 or found.dtype.kind != "f" or not found.size:
        raise UnusableImage("it must hold a two-dimensional array of floating-point numbers, in metres")
    if found.size > IMAGE_PIXELS:
        raise UnusableImage(f"it exceeds the limit of {IMAGE_PIXELS // 10**6} megapixels; scale it down")
    return found


def _open_png(path: Path) -> np.ndarray:
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        if image.format != "PNG" or image.mode not in _PNG_MODES:
            raise UnusableImage(
                f"it is a {image.format} with pixels of mode {image.mode}; a depth map must be a 16-bit PNG "
                "with one channel, or an array (.npy) in metres"
            )
        return np.asarray(image)


def read_depth_keys(data: Mapping[str, Any]) -> dict[str, Any]:
    """Check the distance keys of a data YAML, and return those that are set. Raises ValueError."""
    given = {key: data[key] for key in ("depth_scale", "max_depth") if data.get(key) is not None}
    for key, value in given.items():
        if type(value) not in {int, float} or not 0 < value < math.inf:
            meaning = "the divisor that converts the values in a PNG to metres, such as 1000 for millimetres"
            if key == "max_depth":
                meaning = "a distance in metres, and validation ignores pixels at this distance or beyond"
            raise ValueError(f"{key} must be a positive number, not {show_value(value)}; it is {meaning}")
    return given

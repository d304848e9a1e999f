"""The colours of classes."""

from __future__ import annotations

import colorsys

_GOLDEN_RATIO = 0.618034
"""The step of the hue from class to class, which keeps the colours of neighbouring classes apart."""


def class_colour(class_id: int) -> tuple[int, int, int]:
    """Return the colour of a class, dark enough for white text, in OpenCV's order: blue, green, red."""
    red, green, blue = colorsys.hsv_to_rgb(class_id * _GOLDEN_RATIO % 1, 0.85, 0.75)
    return round(blue * 255), round(green * 255), round(red * 255)

"""Divides the images of class folders into those to train on and those to validate with.

Follows `split_classify_dataset` of ultralytics/data/split.py, so that the result is the same: 80 % of the
images of each class, rounded down, are for training.
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NamedImage = tuple[str, None, str]
"""An image, its label file (None for classify), and its name in the split, which begins with the class."""

_TRAINED = 0.8


def divide(images: Iterable[NamedImage]) -> tuple[list[NamedImage], list[NamedImage]]:
    """Return the images to train on, and the images to validate with, both in the order of their names."""
    classes: defaultdict[str, list[NamedImage]] = defaultdict(list)
    for image in images:
        classes[image[2].partition("/")[0]].append(image)
    train: list[NamedImage] = []
    rest: list[NamedImage] = []
    for _, found in sorted(classes.items()):
        found.sort(key=lambda image: PurePath(image[2]).parts)
        random.Random(0).shuffle(found)  # noqa: S311 - no secret depends on it
        end = int(len(found) * _TRAINED)
        train += found[:end]
        rest += found[end:]
    return _in_order(train), _in_order(rest)


def _in_order(images: list[NamedImage]) -> list[NamedImage]:
    return sorted(images, key=lambda image: image[2])

"""The content of a label file as shapes within an image; coordinates are fractions of the image's size."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets.checking.label_lines import BOX, OUTLINE
from include.datasets.text import read_lines
from include.limits import LABEL_BYTES, LABEL_LINE, LABEL_LINES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from include.ultralytics_tasks import Task


Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """One labelled object."""

    class_id: int
    """As in the label file; the dataset may have no such class."""
    outline: tuple[Point, ...]
    """The corners of the object's box, oriented box or polygon."""
    keypoints: tuple[Point, ...] = ()
    """Only the labelled keypoints."""


def read_shapes(label: Path, task: Task, keypoints: tuple[int, int]) -> Iterator[Shape]:
    """Yield the objects of a label file.

    Skips lines that contain fewer than five numbers, or anything other than finite numbers.
    """
    lines = read_lines(label, most_bytes=LABEL_BYTES, most_lines=LABEL_LINES, longest=LABEL_LINE)
    for _, line in lines:
        try:
            numbers = [float(text) for text in line.split()]
        except ValueError:
            continue
        if len(numbers) < BOX or not all(map(math.isfinite, numbers)):
            continue
        yield _parse_shape(int(numbers[0]), numbers[1:], task, keypoints)


def _parse_shape(class_id: int, values: Sequence[float], task: Task, keypoints: tuple[int, int]) -> Shape:
    columns = len(values) + 1
    has_keypoints = task in {"pose", "detect"} and columns == BOX + math.prod(keypoints)
    if columns >= OUTLINE and not has_keypoints:
        return Shape(class_id, tuple(zip(values[::2], values[1::2], strict=False)))
    x, y, width, height = values[:4]
    left, right, top, bottom = x - width / 2, x + width / 2, y - height / 2, y + height / 2
    box = ((left, top), (right, top), (right, bottom), (left, bottom))
    return Shape(class_id, box, _find_labelled_points(values[4:], keypoints[1]) if task == "pose" else ())


def _find_labelled_points(values: Sequence[float], dimensions: int) -> tuple[Point, ...]:
    """Return the labelled keypoints: those whose visibility is not 0, or all if there are no visibilities."""
    step = dimensions or 2
    groups = [values[start : start + step] for start in range(0, len(values) - step + 1, step)]
    return tuple((group[0], group[1]) for group in groups if step == 2 or group[2])

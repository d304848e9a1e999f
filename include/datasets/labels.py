"""Tells whether a label file is well formed. Follows `verify_image_label` and `verify_labels` of Ultralytics.

An image whose labels break these rules is left out of the training with nothing but a line in the log: here
it is an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_BOX = 5
_OBB = 9
_FEWEST_POLYGON_COLUMNS = 7
# Annotation tools round; Ultralytics tolerates 1 %.
_LOW, _HIGH = -0.01, 1.01
_FORMS = {
    "detect": "class x y width height (5 columns)",
    "segment": "class x1 y1 x2 y2 x3 y3 … (at least 7 columns, an odd number)",
    "obb": "class x1 y1 x2 y2 x3 y3 x4 y4 (9 columns)",
}


@dataclass(frozen=True)
class LabelRules:
    """What the labels must be. keypoints is (number of them, values for each)."""

    task: str
    classes: int
    keypoints: tuple[int, int] = (0, 0)

    @property
    def pose_columns(self) -> int:
        """Columns of a label with keypoints."""
        return _BOX + math.prod(self.keypoints)

    @property
    def form(self) -> str:
        """The form of a label, for a person."""
        if self.task == "pose":
            number, values = self.keypoints
            return f"class x y width height and {number} x {values} values ({self.pose_columns} columns)"
        return _FORMS[self.task]


Problem = tuple[int | None, str]


def check_labels(path: Path, rules: LabelRules) -> tuple[list[Problem], int]:
    """Return what is wrong, as (line from 1, message), and the number of objects."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        return [
            (None, f"it is not text in UTF-8 ({error.reason} at byte {error.start}); save it as UTF-8")
        ], 0
    except OSError as error:
        return [(None, f"it cannot be read: {error}")], 0
    rows = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    problems: list[Problem] = [
        (number, message) for number, row in rows for message in _row_problems(row, rules)
    ]
    if rules.task == "detect" and not problems:
        problems += _mixture(rows, rules)
    return problems, len(rows)


def _row_problems(row: Sequence[str], rules: LabelRules) -> Iterator[str]:
    if message := _form_problem(len(row), rules):
        yield message
        return
    numbers = []
    for column, text in enumerate(row, start=1):
        try:
            numbers.append(float(text))
        except ValueError:
            yield f"column {column} is {text!r}, not a number"
            return
        if not math.isfinite(numbers[-1]):
            yield f"column {column} is {text!r}, not a finite number"
            return
    yield from _class_problem(numbers[0], row[0], rules.classes)
    yield from _coordinate_problem(numbers, rules)


def _form_problem(columns: int, rules: LabelRules) -> str | None:
    odd_polygon = columns >= _FEWEST_POLYGON_COLUMNS and columns % 2 == 1
    fits = {
        # Ultralytics trains detection on outlines (it takes their boxes) and on labels with keypoints (it
        # drops them).
        "detect": columns == _BOX or odd_polygon or columns == rules.pose_columns,
        "segment": odd_polygon,
        "obb": columns == _OBB,
        "pose": columns == rules.pose_columns,
    }[rules.task]
    if fits:
        return None
    if columns == _BOX:
        return f"this is a detect label (5 columns), but task={rules.task!r} needs {rules.form}"
    return f"the line has {columns} columns, but task={rules.task!r} needs {rules.form}"


def _class_problem(number: float, text: str, classes: int) -> Iterator[str]:
    if not number.is_integer():
        yield f"class {text} is not a whole number"
    elif not 0 <= number < classes:
        yield f"class {text} is not in 0..{classes - 1}: names has {classes} classes"


def _coordinate_problem(numbers: Sequence[float], rules: LabelRules) -> Iterator[str]:
    for name, value in _coordinates(numbers, rules):
        if not _LOW <= value <= _HIGH or (name in {"width", "height"} and value < 0):
            yield f"{name} = {value:g} is outside 0..1: write fractions of the image's size, not pixels"
            return
    if rules.task == "pose" and rules.keypoints[1] == 3:
        for value in numbers[_BOX + 2 :: 3]:
            if value not in {0, 1, 2}:
                yield f"visibility {value:g} is none of 0 (not labelled), 1 (hidden), 2 (visible)"
                return


def _coordinates(numbers: Sequence[float], rules: LabelRules) -> Iterator[tuple[str, float]]:
    if rules.task == "obb":
        # The corners of an object that the image's border cuts may lie outside (DOTA has many): its upright
        # box counts.
        yield from zip(("x", "y", "width", "height"), _upright_box(numbers[1:]), strict=True)
        return
    boxed = len(numbers) == _BOX or (len(numbers) == rules.pose_columns and rules.task in {"detect", "pose"})
    if boxed:
        yield from zip(("x", "y", "width", "height"), numbers[1:_BOX], strict=True)
    if not boxed or rules.task == "pose":
        step = rules.keypoints[1] if boxed else 2
        points = numbers[_BOX:] if boxed else numbers[1:]
        for index in range(0, len(points), step):
            yield f"x{index // step + 1}", points[index]
            yield f"y{index // step + 1}", points[index + 1]


def _upright_box(points: Sequence[float]) -> tuple[float, float, float, float]:
    xs, ys = points[::2], points[1::2]
    return (min(xs) + max(xs)) / 2, (min(ys) + max(ys)) / 2, max(xs) - min(xs), max(ys) - min(ys)


def _mixture(rows: Sequence[tuple[int, list[str]]], rules: LabelRules) -> Iterator[Problem]:
    """Ultralytics refuses a file in which some lines are boxes and others are outlines."""
    boxes = [len(row) in {_BOX, rules.pose_columns} for _, row in rows]
    for (number, _), is_box in zip(rows, boxes, strict=True):
        if is_box != boxes[0]:
            yield number, "boxes and outlines are mixed in one file; use one kind"
            return

"""Checks label files. Follows `verify_image_label` and `verify_labels` of Ultralytics.

Ultralytics drops an image whose labels break these rules from the training, with nothing but a line in the
log. Here it is an error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from include.datasets.text import read_lines
from include.limits import FINDINGS_PER_FILE, LABEL_BYTES, LABEL_COLUMNS, LABEL_LINE, LABEL_LINES
from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_BOX = 5
_OBB = 9
_FEWEST_POLYGON_COLUMNS = 7
# Annotation tools round; Ultralytics tolerates 1 %.
_LOW, _HIGH = -0.01, 1.01
_LONGEST_SHOWN = 40
_FORMS = {
    "detect": "class x y width height (5 columns)",
    "segment": "class x1 y1 x2 y2 x3 y3 … (at least 7 columns, an odd number)",
    "obb": "class x1 y1 x2 y2 x3 y3 x4 y4 (9 columns)",
}


@dataclass(frozen=True)
class LabelRules:
    """The rules that labels must follow. keypoints is (number of keypoints, values per keypoint)."""

    task: str
    classes: int
    keypoints: tuple[int, int] = (0, 0)

    @property
    def pose_columns(self) -> int:
        """Number of columns of a label with keypoints."""
        return _BOX + math.prod(self.keypoints)

    @property
    def form(self) -> str:
        """The format of a label, for messages."""
        if self.task == "pose":
            number, values = self.keypoints
            return f"class x y width height and {number} x {values} values ({self.pose_columns} columns)"
        return _FORMS[self.task]


Problem = tuple[int | None, str]


def check_labels(path: Path, rules: LabelRules) -> tuple[list[Problem], int]:
    """Return the problems, as (line from 1, message), and the number of objects.

    Stops after FINDINGS_PER_FILE problems.
    """
    problems: list[Problem] = []
    objects, kinds = 0, _Kinds(rules)
    lines = read_lines(path, most_bytes=LABEL_BYTES, most_lines=LABEL_LINES, longest=LABEL_LINE)
    try:
        for number, line in lines:
            if not (row := line.split()):
                continue
            objects += 1
            kinds.add(number, len(row))
            problems += [(number, message) for message in _row_problems(row, rules)]
            if len(problems) >= FINDINGS_PER_FILE:
                problems.append((number, f"the rest of the file was not read after {len(problems)} problems"))
                break
    except ValueError as error:
        problems.append((None, str(error)))
    except OSError as error:
        problems.append((None, f"it cannot be read: {error}"))
    if rules.task == "detect" and not problems and kinds.mixed:
        problems.append((kinds.mixed, "boxes and outlines are mixed in one file; use one kind"))
    return problems, objects


def _row_problems(row: Sequence[str], rules: LabelRules) -> Iterator[str]:
    if message := _form_problem(len(row), rules):
        yield message
        return
    numbers = []
    for column, text in enumerate(row, start=1):
        try:
            numbers.append(float(text))
        except ValueError:
            yield f"column {column} is {show_value(text, _LONGEST_SHOWN)}, not a number"
            return
        if not math.isfinite(numbers[-1]):
            yield f"column {column} is {show_value(text, _LONGEST_SHOWN)}, not a finite number"
            return
    yield from _class_problem(numbers[0], rules.classes)
    yield from _coordinate_problem(numbers, rules)


def _form_problem(columns: int, rules: LabelRules) -> str | None:
    if columns > LABEL_COLUMNS:
        return f"the line has {columns:,} columns, more than the limit of {LABEL_COLUMNS:,}; simplify it"
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


def _class_problem(number: float, classes: int) -> Iterator[str]:
    if not number.is_integer():
        yield f"class {number:g} is not a whole number"
    elif not 0 <= number < classes:
        yield f"class {number:.15g} is not in 0..{classes - 1}: names has {classes} classes"


def _coordinate_problem(numbers: Sequence[float], rules: LabelRules) -> Iterator[str]:
    for name, value in _coordinates(numbers, rules):
        if not _LOW <= value <= _HIGH or (name in {"width", "height"} and value < 0):
            yield f"{name} = {value:g} is outside 0..1: write fractions of the image's size, not pixels"
            return
    if rules.task == "pose" and rules.keypoints[1] == 3:
        for value in numbers[_BOX + 2 :: 3]:
            if value not in {0, 1, 2}:
                yield f"visibility {value:g} is not 0 (not labelled), 1 (hidden) or 2 (visible)"
                return


def _coordinates(numbers: Sequence[float], rules: LabelRules) -> Iterator[tuple[str, float]]:
    if rules.task == "obb":
        # The corners of an object that is cut off by the image's edge may be outside (DOTA has many), so
        # check the upright box.
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


class _Kinds:
    """Finds the first outline among boxes, or vice versa: Ultralytics rejects such a file."""

    def __init__(self, rules: LabelRules) -> None:
        self._boxes = {_BOX, rules.pose_columns}
        self._first: bool | None = None
        self.mixed: int | None = None

    def add(self, line: int, columns: int) -> None:
        is_box = columns in self._boxes
        if self._first is None:
            self._first = is_box
        elif is_box != self._first and self.mixed is None:
            self.mixed = line

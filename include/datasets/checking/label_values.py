"""Checks the numbers of label lines as Ultralytics does, in single precision."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from include.datasets.checking.label_lines import BOX, LabelProblem
from include.limits import FINDINGS_PER_FILE, TINY_PIXELS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np

    from include.datasets.checking.kinds import KindName
    from include.datasets.checking.label_lines import CheckedLabels, LabelRules, Rows

_BOX_NAMES = ("x", "y", "width", "height")
_LOW, _HIGH = -0.01, 1.01
"""The range of valid positions: annotation tools round, and Ultralytics tolerates 1 % beyond 0..1."""

_VISIBILITIES = (0, 1, 2)


@dataclass(frozen=True)
class _Labels:
    """The labels of a file: each array has one row per line."""

    classes: np.ndarray
    """The first numbers: class ids, which may be invalid. One-dimensional."""
    boxes: np.ndarray
    """Centre, width and height."""
    points: np.ndarray
    """The numbers that have an upper bound: those of the boxes, or for pose the keypoints' positions."""
    values: np.ndarray
    """All numbers that have a lower bound."""
    visibilities: np.ndarray
    """One column for each keypoint; none if the labels have no visibilities."""


def check_values(rows: Rows, rules: LabelRules, size: tuple[int, int] | None, checked: CheckedLabels) -> None:
    """Check the numbers of all rows; add problems, warnings and the numbers of objects to `checked`."""
    labels = _enclose_outlines(rows) if rows.has_outlines else _read_boxes(rows, rules)
    for index in _find_bad(labels, rules).nonzero()[0].tolist():
        message, kind = _explain(labels, index, rules, size, is_outline=rows.has_outlines)
        checked.problems.append(LabelProblem(rows.lines[index], message, kind))
        if len(checked.problems) >= FINDINGS_PER_FILE:
            break
    if checked.problems:
        return
    repeated = _find_repeated(rows, labels)
    for index, earlier in repeated.items():
        message = f"the same label is in line {rows.lines[earlier]}"
        checked.warn(rows.lines[index], message, "duplicate-rows")
    _warn(rows, labels, size, checked)
    kept = (number for index, number in enumerate(labels.classes) if index not in repeated)
    checked.classes = dict(sorted(Counter(map(int, kept)).items()))


def _read_boxes(rows: Rows, rules: LabelRules) -> _Labels:
    import numpy as np

    table = np.frombuffer(rows.values, np.float32).reshape(len(rows.lines), -1)
    boxes = table[:, 1:BOX]
    if rules.task != "pose":
        return _Labels(table[:, 0], boxes, boxes, table, table[:, :0])
    keypoints = table[:, BOX:].reshape(len(table), *rules.keypoints)
    positions = keypoints[..., :2].reshape(len(table), -1)
    return _Labels(table[:, 0], boxes, positions, table, keypoints[..., 2:].reshape(len(table), -1))


def _enclose_outlines(rows: Rows) -> _Labels:
    """Return the upright boxes around outlines, as `segments2boxes` does.

    Ultralytics checks these boxes rather than the vertices, some of which may lie outside the image.
    """
    import numpy as np

    values = np.frombuffer(rows.values, np.float32)
    table = np.empty((len(rows.lines), BOX), np.float32)
    for index, (start, end) in enumerate(pairwise(rows.starts)):
        points = values[start + 1 : end].reshape(-1, 2)
        low, high = points.min(axis=0), points.max(axis=0)
        table[index, 0] = values[start]
        table[index, 1:3] = (low + high) / 2
        table[index, 3:] = high - low
    boxes = table[:, 1:]
    return _Labels(table[:, 0], boxes, boxes, table, table[:, :0])


def _find_bad(labels: _Labels, rules: LabelRules) -> np.ndarray:
    classes, boxes = labels.classes, labels.boxes
    bad: np.ndarray = (
        _has_any(labels.points > _HIGH) | _has_any(labels.values < _LOW) | _has_any(boxes[:, 2:] < 0)
    )
    bad |= classes % 1 != 0
    if not rules.single_cls:
        bad |= classes >= rules.classes
    if rules.task == "pose":
        low, high = _find_corners(boxes)
        bad |= _has_any((low > 1) | (high < 0))  # the box lies entirely outside the image
    return bad


def _find_corners(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the upper left and the lower right corner of each box."""
    centres, halves = boxes[:, :2], boxes[:, 2:] / 2
    return centres - halves, centres + halves


def _explain(
    labels: _Labels, index: int, rules: LabelRules, size: tuple[int, int] | None, *, is_outline: bool
) -> tuple[str, KindName]:
    """Return a message that says what is wrong with a label, and the kind of this problem."""
    number = float(labels.classes[index])
    if number % 1:
        return f"class {number:g} is not a whole number", "label-class"
    if number < 0 or (number >= rules.classes and not rules.single_cls):
        plural = "class" if rules.classes == 1 else "classes"
        return (
            f"class {number:.15g} is not in 0..{rules.classes - 1}: names has {rules.classes} {plural}",
            "label-class",
        )
    for name, value, side in _list_coordinates(labels, index, rules):
        if value > _HIGH or value < _LOW or (name in {"width", "height"} and value < 0):
            if name.startswith("visibility"):
                return f"{name} = {value:g} is negative; write 0 for an unlabelled keypoint", "label-range"
            owner = " of the box around the outline" if is_outline else ""
            return (
                f"{name} = {value:g}{owner} is outside 0..1{_hint_at_pixels(value, side, size)}",
                "label-range",
            )
    return "the box lies outside the image", "label-box"


def _list_coordinates(labels: _Labels, index: int, rules: LabelRules) -> Iterator[tuple[str, float, int]]:
    """Yield the name, the value and the axis (0: width, 1: height) of each number.

    Numbers without an upper bound are skipped unless they are negative.
    """
    is_pose = rules.task == "pose"
    for number, (name, value) in enumerate(zip(_BOX_NAMES, labels.boxes[index].tolist(), strict=True)):
        if not is_pose or value < 0:
            yield name, value, number % 2
    if not is_pose:
        return
    for number, value in enumerate(labels.points[index].tolist()):
        yield f"{'xy'[number % 2]}{number // 2 + 1}", value, number % 2
    for number, value in enumerate(labels.visibilities[index].tolist(), start=1):
        if value < 0:
            yield f"visibility{number}", value, 0


def _hint_at_pixels(value: float, side: int, size: tuple[int, int] | None) -> str:
    """Return a hint that the value is in pixels if the image's size makes that likely; otherwise ''."""
    if size is not None and 2 <= value <= size[side] * _HIGH:
        return (
            f"; the image is {size[0]} x {size[1]} pixels, so the value seems to be in pixels: write "
            "fractions of the image's size"
        )
    return ""


def _find_repeated(rows: Rows, labels: _Labels) -> dict[int, int]:
    """Map each row that repeats an earlier row to the earlier one. Ultralytics removes such duplicates."""
    table = labels.values + 0.0  # -0.0 becomes 0.0
    repeated = _map_to_first(row.tobytes() for row in table)
    if not repeated or not rows.has_outlines:
        return repeated
    raw = memoryview(rows.values)  # different outlines may have the same box
    return _map_to_first(raw[start:end].tobytes() for start, end in pairwise(rows.starts))


def _map_to_first(contents: Iterable[bytes]) -> dict[int, int]:
    first: dict[bytes, int] = {}
    earlier = (first.setdefault(content, index) for index, content in enumerate(contents))
    return {index: other for index, other in enumerate(earlier) if other != index}


def _warn(rows: Rows, labels: _Labels, size: tuple[int, int] | None, checked: CheckedLabels) -> None:
    import numpy as np

    if size is not None:
        pixels = labels.boxes[:, 2:] * np.array(size, np.float32)
        for index in _find_rows_with(pixels <= TINY_PIXELS):
            width, height = pixels[index].tolist()
            checked.warn(rows.lines[index], f"the box is {width:.3g} x {height:.3g} pixels", "tiny-boxes")
    if rows.has_outlines:
        low, high = _find_corners(labels.boxes)
        for index in _find_rows_with((low < _LOW) | (high > _HIGH)):
            checked.warn(rows.lines[index], "it extends beyond the image by more than 1 %", "outside")
    for index in _find_rows_with(~np.isin(labels.visibilities, _VISIBILITIES)):
        odd = next(value for value in labels.visibilities[index].tolist() if value not in _VISIBILITIES)
        checked.warn(rows.lines[index], f"visibility {odd:g} counts as visible", "visibility")


def _has_any(table: np.ndarray) -> np.ndarray:
    """Return for each row whether any of its values is true."""
    import numpy as np

    return np.asarray(table.any(axis=1))


def _find_rows_with(table: np.ndarray) -> Iterator[int]:
    """Yield the index of each row in which any value is true."""
    yield from _has_any(table).nonzero()[0].tolist()

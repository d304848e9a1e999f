"""Checks label files as Ultralytics' `verify_image_label` and `verify_labels` do, with the same precision."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING, Literal

from include.datasets.checking.label_lines import BOX, OUTLINE, CheckedLabels, LabelProblem, Rows
from include.datasets.checking.label_values import check_values
from include.datasets.disk import is_passing
from include.datasets.text import open_regular, split_lines
from include.limits import FINDINGS_PER_FILE, LABEL_BYTES, LABEL_COLUMNS, LABEL_LINE, LABEL_LINES

if TYPE_CHECKING:
    from pathlib import Path

    from include.datasets.checking.label_lines import LabelRules

_POINT = 3

_Form = Literal["box", "point", "outline"]


def check_labels(path: Path, rules: LabelRules, size: tuple[int, int] | None = None) -> CheckedLabels:
    """Check a label file. `size` is the width and height of its image, if the image can be read.

    Raises OSErrors after which a retry may succeed.
    """
    checked = CheckedLabels()
    try:
        with open_regular(path, LABEL_BYTES) as file:
            content = file.read(LABEL_BYTES)
        checked.sha256 = hashlib.sha256(content).hexdigest()
        rows = _read_rows(content, rules, checked)
    except ValueError as error:
        checked.problems.append(LabelProblem(None, str(error), "label-file"))
    except OSError as error:
        if is_passing(error):
            raise
        checked.problems.append(LabelProblem(None, f"it cannot be read: {error}", "label-file"))
    else:
        if rows is not None:
            check_values(rows, rules, size, checked)
    if len(checked.problems) >= FINDINGS_PER_FILE:
        rest = f"checking stopped after {FINDINGS_PER_FILE} problems; the rest of the file was not checked"
        checked.problems.append(LabelProblem(checked.problems[-1].line, rest, "stopped"))
    return checked


def _read_rows(content: bytes, rules: LabelRules, checked: CheckedLabels) -> Rows | None:
    """Return the lines that have a valid form, and add the problems of the other lines to `checked`.

    Returns None if no line has a valid form, if boxes and outlines are mixed, if there are points but
    no outlines, or if there are too many problems.
    """
    rows = Rows()
    first: dict[_Form, int] = {}
    for number, line in split_lines(io.BytesIO(content), most_lines=LABEL_LINES, longest=LABEL_LINE):
        if not (row := line.split()):
            continue
        if len(row) == rules.pose_columns and rules.task != "pose":
            row = row[:BOX]  # for tasks other than pose, Ultralytics uses the boxes of such labels
        if message := _find_form_problem(len(row), rules):
            checked.problems.append(LabelProblem(number, message, "label-form"))
        elif problem := rows.add(number, row):
            checked.problems.append(problem)
        else:
            first.setdefault(_determine_form(len(row), rules), number)
        if len(checked.problems) >= FINDINGS_PER_FILE:
            return None
    rows.has_outlines = checked.has_outlines = "outline" in first
    if "box" in first and "outline" in first:
        message = "boxes and outlines are mixed in one file; use one kind"
        checked.problems.append(LabelProblem(max(first.values()), message, "label-mixed"))
        return None
    if "point" in first and "outline" not in first:
        message = f"the line has {_POINT} columns, but task={rules.task!r} needs {rules.form}"
        checked.problems.append(LabelProblem(first["point"], message, "label-form"))
        return None
    return rows if rows.lines else None


def _determine_form(columns: int, rules: LabelRules) -> _Form:
    if rules.task == "pose" or columns == BOX:
        return "box"
    return "point" if columns == _POINT else "outline"


def _find_form_problem(columns: int, rules: LabelRules) -> str | None:
    if columns > LABEL_COLUMNS:
        return f"the line has {columns:,} columns, more than the limit of {LABEL_COLUMNS:,}; simplify it"
    # In a file of outlines, Ultralytics also accepts single points.
    is_outline = columns % 2 == 1 and (columns >= OUTLINE or columns == _POINT)
    fits = {
        # Ultralytics uses the bounding boxes of outlines for detect, and their smallest rectangles for obb.
        "detect": columns == BOX or is_outline,
        "pose": columns == rules.pose_columns,
    }.get(rules.task, is_outline)
    if fits:
        return None
    if columns == BOX:
        return f"this is a detect label (5 columns), but task={rules.task!r} needs {rules.form}"
    return f"the line has {columns} columns, but task={rules.task!r} needs {rules.form}"

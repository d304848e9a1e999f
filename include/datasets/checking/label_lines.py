"""The lines of a label file: the rules for them, their numbers, and the results of checking them."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from include.datasets.checking.kinds import KindName  # noqa: TC001 - pydantic reads annotations at run time
from include.limits import FINDINGS_PER_FILE
from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Sequence

    from include.ultralytics_tasks import Task


BOX, OUTLINE = 5, 7
"""Number of columns of a label with a box, and the smallest number of one with an outline."""

_LONGEST_SHOWN = 40
_FORMS: dict[Task, str] = {
    "detect": "class x y width height (5 columns)",
    "segment": "class x1 y1 x2 y2 x3 y3 … (at least 7 columns, an odd number)",
    "semantic": "class x1 y1 x2 y2 x3 y3 … (at least 7 columns, an odd number)",
    "obb": "class x1 y1 x2 y2 x3 y3 x4 y4 (9 columns, or an outline of at least 3 points)",
}


@dataclass(frozen=True)
class LabelRules:
    """The rules that the labels of a dataset must follow."""

    task: Task
    """The task of the training run, which determines the format of a label."""
    classes: int
    """Number of class names."""
    keypoints: tuple[int, int] = (0, 0)
    """Number of keypoints, and of values per keypoint; zeros if the data YAML has no keypoints."""
    single_cls: bool = False
    """Whether all classes are merged into one, so that any id is valid."""

    @property
    def pose_columns(self) -> int:
        """Number of columns of a label with keypoints."""
        return BOX + math.prod(self.keypoints)

    @property
    def form(self) -> str:
        """The format of a label, for messages."""
        if self.task == "pose":
            number, values = self.keypoints
            return f"class x y width height and {number} x {values} values ({self.pose_columns} columns)"
        return _FORMS[self.task]


@dataclass(frozen=True)
class LabelProblem:
    """A problem, or a probable problem, in a label file."""

    line: int | None
    """Counted from 1; None if the problem concerns the whole file."""
    message: str
    """What is wrong, without the file and the line."""
    kind: KindName
    """The kind of the finding that reports the problem."""


@dataclass
class CheckedLabels:
    """The content of a label file, and the problems in it."""

    problems: list[LabelProblem] = field(default_factory=list)
    """Errors. Reading stops after FINDINGS_PER_FILE errors."""
    warnings: list[LabelProblem] = field(default_factory=list)
    """The first FINDINGS_PER_FILE warnings."""
    warned: Counter[KindName] = field(default_factory=Counter)
    """Number of warnings by kind."""
    classes: Mapping[int, int] = field(default_factory=dict)
    """Number of objects for each class id in the file."""
    has_outlines: bool = False
    """Whether the objects are outlines, not boxes."""
    has_usable_pixels: bool = False
    """Whether a mask or depth map has pixels to learn from: a class, the background or a distance."""
    is_measurable: bool = True
    """Whether validation can measure anything with these labels."""
    sha256: str | None = None
    """Hash of the file; None if the file cannot be read."""

    @property
    def objects(self) -> int:
        """Number of objects, not counting repeated lines; for a mask, number of classes in it."""
        return sum(self.classes.values())

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be learnt from the labels, except perhaps that the image is empty."""
        return not self.objects and not self.has_usable_pixels

    def warn(self, line: int, message: str, kind: KindName) -> None:
        """Add a warning."""
        self.warned[kind] += 1
        if len(self.warnings) < FINDINGS_PER_FILE:
            self.warnings.append(LabelProblem(line, message, kind))


@dataclass
class Rows:
    """A label file's lines that have a valid number of columns, as single-precision numbers."""

    values: array[float] = field(default_factory=lambda: array("f"))
    """All numbers, line by line."""
    starts: list[int] = field(default_factory=lambda: [0])
    """Where each line begins in `values`; the final element is where the last line ends."""
    lines: list[int] = field(default_factory=list)
    """The number of each line in the file."""
    has_outlines: bool = False
    """Whether the lines are outlines, not boxes."""

    def add(self, line: int, row: Sequence[str]) -> LabelProblem | None:
        """Add a line; if its numbers are invalid, return the problem instead."""
        try:
            self.values.extend(map(float, row))
        except ValueError:
            column = len(self.values) - self.starts[-1]  # all columns before it have been added
            del self.values[self.starts[-1] :]
            shown = show_value(row[column], _LONGEST_SHOWN)
            return LabelProblem(line, f"column {column + 1} is {shown}, not a number", "label-number")
        for column, value in enumerate(self.values[self.starts[-1] :]):
            if not math.isfinite(value):
                del self.values[self.starts[-1] :]
                shown = show_value(row[column], _LONGEST_SHOWN)
                what = "too large" if math.isfinite(float(row[column])) else "not a finite number"
                return LabelProblem(line, f"column {column + 1} is {shown}, {what}", "label-finite")
        self.starts.append(len(self.values))
        self.lines.append(line)
        return None

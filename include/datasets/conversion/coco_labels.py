"""Makes classes and the rows of label files from COCO annotations, as `convert_coco` of Ultralytics does.

Categories are numbered from 0 in the order of their ids across a dataset's files. `convert_coco` gives the
same numbers: for COCO itself with cls91to80=True, and for ids from 1 to n with cls91to80=False. The rows are
collected on disk until all rows of an image are known.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from include.datasets.conversion.outlines import is_pixel, outline_object
from include.limits import KEYPOINTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from include.datasets.conversion.coco_file import Category, Image
    from include.datasets.conversion.problems import Problems
    from include.ultralytics_tasks import Task

    Classes = Mapping[int, Category]
    """The categories that become classes, by id in ascending order."""


_MIRRORED = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))
_OUTLINED: set[Task] = {"segment", "semantic", "obb"}

_CROWD = "annotations describe crowds (iscrowd), which are not used for training"
_NO_SIZE = "annotations have a box without width or height, and are skipped"
_NO_KEYPOINT = "annotations have no labelled keypoint, and are skipped as in COCO's evaluation"
_NO_OUTLINE = "annotations have no usable outline, so their boxes are used as outlines"


def merge_categories(files: Iterable[tuple[str, Classes]], problems: Problems) -> Classes:
    """Return the classes of several files; add a problem for each id or name that differs between them.

    A file may give a name to several categories, but then each file that has the name must have all of them.
    """
    merged: dict[int, Category] = {}
    ids: dict[str, set[int]] = {}
    for name, categories in files:
        own = defaultdict(set)
        for key, category in categories.items():
            own[category.name].add(key)
        for label, keys in own.items():
            if ids.setdefault(label, keys) != keys:
                problems.add(
                    "a category has a different id in another annotation file of the dataset, so it would "
                    "become two classes; give it the same id in all of them",
                    f"{name}: category {min(keys)}",
                )
        for key, category in categories.items():
            other = merged.setdefault(key, category)
            if other.name != category.name:
                problems.add(
                    "a category has a different name in another annotation file of the dataset; use the same "
                    "categories in all of them",
                    f"{name}: category {key}",
                )
    return dict(sorted(merged.items()))


def drop_umbrella(classes: Classes, used: Collection[int]) -> Classes:
    """Omit a category that is only the supercategory of all others, as in Roboflow's exports.

    Such a category has the lowest id, no supercategory, and no annotations.
    """
    (first, umbrella), *others = classes.items()
    is_umbrella = (
        first not in used
        and umbrella.above in {None, "none"}
        and others
        and all(category.above == umbrella.name for _, category in others)
    )
    return dict(others) if is_umbrella else classes


def describe_keypoints(classes: Classes, lengths: Collection[int]) -> dict[str, Any]:
    """Return the keys of the data YAML that describe keypoints.

    `lengths` are the different numbers of keypoints that annotations have. Raises ValueError unless there is
    exactly one.
    """
    if not lengths:
        raise ValueError("no annotation has a labelled keypoint; label keypoints, or choose a different task")
    if len(lengths) != 1:
        found = " and ".join(map(str, sorted(lengths)))
        raise ValueError(
            f"annotations have {found} keypoints, but one model needs the same number for all; separate the "
            "categories"
        )
    (count,) = lengths
    names = {category.keypoints for category in classes.values() if category.keypoints}
    shape: dict[str, Any] = {"kpt_shape": [count, 3]}
    if len(names) != 1 or len(points := next(iter(names))) != count:
        return shape
    named = {"kpt_names": {number: list(points) for number in range(len(classes))}}
    flip = _mirror(points)
    return shape | named | ({"flip_idx": flip} if flip else {})


def _mirror(points: tuple[str, ...]) -> list[int] | None:
    """Return the index of each keypoint's mirror image; None if the names do not tell left from right."""
    mirrored = tuple(map(_mirror_name, points))
    if mirrored == points or len(set(points)) < len(points) or not set(mirrored) <= set(points):
        return None
    return [points.index(name) for name in mirrored]


def _mirror_name(name: str) -> str:
    for left, right in _MIRRORED:
        if left in name:
            return name.replace(left, right)
        if right in name:
            return name.replace(right, left)
    return name


@dataclass(frozen=True)
class Row:
    """A row of a label file, without the class."""

    numbers: tuple[float, ...] = ()
    """The numbers after the class; empty if the annotation is skipped."""
    note: str | None = None
    """Why the annotation is skipped, or why its box is used as the outline; None if neither applies."""


def label_object(annotation: Mapping[str, Any], image: Image, task: Task) -> Row:
    """Return the row for an annotation. Raises ValueError if it is not valid."""
    if annotation.get("iscrowd"):
        return Row(note=_CROWD)
    box = _convert_box(annotation.get("bbox"), image)
    if box[2] <= 0 or box[3] <= 0:
        return Row(note=_NO_SIZE)
    if task == "pose":
        points = _convert_keypoints(annotation.get("keypoints"), image)
        return Row((*box, *points)) if points else Row(note=_NO_KEYPOINT)
    if task not in _OUTLINED:
        return Row(box)
    outline = outline_object(annotation.get("segmentation"), image.height, image.width)
    if outline is None:
        return Row(_compute_corners(*box), _NO_OUTLINE)
    return Row(tuple(outline))


def _convert_box(given: Any, image: Image) -> tuple[float, float, float, float]:
    """Return centre, width and height as fractions of the image's size."""
    if given is None:
        raise ValueError("bbox is missing; add [left, top, width, height] in pixels")
    if not isinstance(given, list) or len(given) != 4 or not all(map(is_pixel, given)):
        raise ValueError("bbox must be [left, top, width, height] in pixels")
    left, top, width, height = map(float, given)
    return (
        (left + width / 2) / image.width,
        (top + height / 2) / image.height,
        width / image.width,
        height / image.height,
    )


def _compute_corners(x: float, y: float, width: float, height: float) -> tuple[float, ...]:
    left, top, right, bottom = x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return left, top, right, top, right, bottom, left, bottom


def _convert_keypoints(given: Any, image: Image) -> list[float]:
    """Return x, y (fractions of the image's size) and visibility of each keypoint; [] if none is labelled."""
    if given is None:
        return []
    if (
        not isinstance(given, list)
        or len(given) % 3
        or len(given) > 3 * KEYPOINTS
        or not all(map(is_pixel, given))
    ):
        raise ValueError("keypoints must be a list with x, y and visibility for each keypoint")
    if not any(given[2::3]):
        return []
    sizes = (image.width, image.height, 1)
    return [number / sizes[index % 3] for index, number in enumerate(given)]


class RowDatabase:
    """A temporary database of label rows: takes them in any order, and returns them by image number."""

    def __init__(self, file: Path) -> None:
        file.unlink(missing_ok=True)  # an attempt that failed may have left it
        self._database = sqlite3.connect(file)
        # Nothing needs to survive the process: the next attempt begins with an empty database.
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE rows (image INTEGER, numbers BLOB)")

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def add(self, image: int, row: Sequence[float] = ()) -> None:
        """Add a row; an empty row only records that the image has a label file."""
        self._database.execute("INSERT INTO rows VALUES (?, ?)", (image, array("d", row).tobytes()))

    def group_by_image(self) -> Iterator[tuple[int, list[tuple[float, ...]]]]:
        """Yield each image that was added, with its distinct rows in the order in which they were added."""
        self._database.commit()
        found = self._database.execute("SELECT image, numbers FROM rows ORDER BY image, rowid")
        for image, rows in groupby(found, key=itemgetter(0)):
            unpacked = (tuple(array("d", numbers)) for _, numbers in rows)
            yield image, list(dict.fromkeys(row for row in unpacked if row))


def in_line(row: Sequence[float]) -> str:
    """Return a row as a line of a label file, in the format of `convert_coco`."""
    return " ".join("%g" % number for number in row) + "\n"  # noqa: UP031 - the format of Ultralytics

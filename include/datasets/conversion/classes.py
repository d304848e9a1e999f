"""The classes of COCO annotations, numbered from 0 in the order of their ids across a dataset's files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from include.datasets.conversion.coco_file import Category

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from include.datasets.conversion.problems import Problems

_MIRRORED = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"))


Classes = Mapping[int, Category]
"""The categories that become classes, by id in ascending order."""


def merge_categories(files: Iterable[tuple[str, Classes]], problems: Problems) -> Classes:
    """Return the classes of several files; add a problem for each id whose name differs between them."""
    merged: dict[int, Category] = {}
    for name, categories in files:
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

"""Reads the keys that describe keypoints in a data YAML, in the forms that Ultralytics accepts for pose."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeGuard

from include.limits import CLASS_NAME, KEYPOINTS
from include.plain_text import is_one_line
from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Mapping


def read_keypoints(data: Mapping[str, Any]) -> dict[str, Any]:
    """Check the keys that describe keypoints, and return those that are set. Raises ValueError."""
    shape = data.get("kpt_shape")
    if not _is_shape(shape):
        raise ValueError(
            f"kpt_shape: {show_value(shape)} must be [number of keypoints, 2 or 3], with at most "
            f"{KEYPOINTS:,} keypoints"
        )
    number = shape[0]
    rules: dict[str, tuple[bool, str]] = {
        "flip_idx": (
            _is_permutation(data.get("flip_idx"), number),
            f"must name each of the {number} keypoints of kpt_shape once, in their order after mirroring",
        ),
        "kpt_names": (
            _are_names(data.get("kpt_names")),
            f"must be a list of names of at most {CLASS_NAME} characters, or map each class id to one",
        ),
        "kpt_oks_sigmas": (
            _are_sigmas(data.get("kpt_oks_sigmas"), number),
            f"must be a list of {number} positive numbers, one for each keypoint of kpt_shape",
        ),
    }
    for key, (is_good, rule) in rules.items():
        if data.get(key) and not is_good:
            raise ValueError(f"{key}: {show_value(data[key])} {rule}")
    return {key: data[key] for key in ("kpt_shape", *rules) if data.get(key)}


def _is_shape(shape: object) -> TypeGuard[list[int]]:
    return (
        isinstance(shape, list)
        and len(shape) == 2
        and all(type(number) is int for number in shape)
        and 0 < shape[0] <= KEYPOINTS
        and shape[1] in {2, 3}
    )


def _is_permutation(flip: object, count: int) -> bool:
    return (
        isinstance(flip, list)
        and all(type(index) is int for index in flip)
        and sorted(flip) == list(range(count))
    )


def _are_names(names: object) -> bool:
    """Return whether the names have a form that Ultralytics stores: one list per class, or a single list."""
    if isinstance(names, dict):
        kinds = {type(key) for key in names}
        return kinds in ({int}, {str}) and all(map(_are_texts, names.values()))
    return _are_texts(names)


def _are_texts(names: object) -> bool:
    return isinstance(names, list) and all(
        isinstance(name, str | int) and len(str(name)) <= CLASS_NAME and is_one_line(str(name))
        for name in names
    )


def _are_sigmas(sigmas: object, count: int) -> bool:
    return (
        isinstance(sigmas, list)
        and len(sigmas) == count
        and all(type(sigma) in {int, float} and 0 < sigma < math.inf for sigma in sigmas)
    )

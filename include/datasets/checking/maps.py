"""Checks labels with a value for each pixel: masks and depth maps."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from include.datasets.checking.depths import build_depth_rules, check_depth
from include.datasets.checking.images import UnusableImage, reserve_pixels, verify_image
from include.datasets.checking.label_lines import CheckedLabels, LabelProblem
from include.datasets.checking.masks import MaskRules, check_mask
from include.datasets.disk import is_lack_of_memory, is_passing

if TYPE_CHECKING:
    from pathlib import Path

    from include.datasets.checking.depths import DepthRules
    from include.datasets.checking.kinds import KindName
    from include.datasets.layouts.samples import Layout

EMPTY_MAP: tuple[str, KindName] = ("nothing can be learnt from it", "empty-maps")
"""Message and kind of the warning about a map without a class or a distance."""

_ARRAY = ".npy"


def build_map_rules(layout: Layout) -> MaskRules | DepthRules | None:
    """Return the rules for the maps of a dataset; None if its labels are lines of text."""
    if not layout.labels.are_images:
        return None
    if layout.task == "depth":
        return build_depth_rules(layout.extras)
    return MaskRules(len(layout.names), layout.extras.get("label_mapping", {}))


def check_map(
    path: Path, suffix: str, rules: MaskRules | DepthRules, size: tuple[int, int] | None
) -> CheckedLabels:
    """Check a mask or a depth map.

    `suffix` determines its format; `size` is the width and height of its image, or None if the image cannot
    be read. Raises OSErrors after which a retry may succeed.
    """
    checked = CheckedLabels()
    try:
        with path.open("rb") as file:
            checked.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if size is not None:
            _check(path, suffix, rules, size, checked)
    except Exception as error:  # decoders raise all kinds of errors
        if is_passing(error):
            raise
        checked.problems.append(LabelProblem(None, _explain(error), "label-map"))
    return checked


def explain_immeasurable(layout: Layout) -> str:
    """Explain why validation measures nothing although the maps have distances."""
    return (
        f"every distance is {build_depth_rules(layout.extras).farthest:g} m or more, and validation ignores "
        "such pixels; correct depth_scale or raise max_depth in the data YAML, or convert .npy files to "
        "metres"
    )


def _check(
    path: Path, suffix: str, rules: MaskRules | DepthRules, size: tuple[int, int], checked: CheckedLabels
) -> None:
    width, height = (0, 0) if suffix == _ARRAY else verify_image(path)  # an array is read in small pieces
    with reserve_pixels(width, height):
        if isinstance(rules, MaskRules):
            classes, checked.has_usable_pixels = check_mask(path, size, rules)
            checked.classes = dict.fromkeys(classes, 1)
        else:
            checked.has_usable_pixels, checked.is_measurable = check_depth(path, suffix, size, rules)


def _explain(error: Exception) -> str:
    if isinstance(error, UnusableImage):
        return str(error)
    if is_lack_of_memory(error):
        return "decoding it takes more memory than a check may use; scale it down"
    return f"it is damaged ({error}); restore it"

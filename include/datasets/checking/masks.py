"""Checks the masks of task semantic. Follows `verify_image_mask` and `SemanticDataset` of Ultralytics.

A mask is an image whose pixels are class ids, or 255 for a pixel that is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.datasets.checking.images import UnusableImage
from include.datasets.names import split_safely
from include.refusals import list_some, show_value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

IGNORED = 255
_MOST_CLASSES = 254
"""An 8-bit pixel has 256 values: 255 means ignored, and labels with outlines need a value for the
background."""

_LISTED_IDS = 5
_WHITE = 255
_ONE_BIT, _PALETTE = "1", "P"
"""Pillow's modes in which a pixel is a bit, or an index into a palette."""


@dataclass(frozen=True)
class MaskRules:
    """The rules that masks must follow."""

    classes: int
    """Number of class names."""
    mapping: Mapping[int, int]
    """Maps ids in the masks to class ids or IGNORED; an id that is not listed is itself the class id."""

    @property
    def last_class(self) -> int:
        """The highest valid class id. With a single class, 1 is the class and 0 is the background."""
        return max(self.classes - 1, 1)

    def read_ids(self, mask: np.ndarray) -> tuple[set[int], list[int]]:
        """Return the mapped ids of a mask, without IGNORED, and the invalid ids as they are in the mask."""
        found = {number: self.mapping.get(number, number) for number in _find_distinct(mask)}
        invalid = [
            number
            for number, meant in found.items()
            if not 0 <= number <= IGNORED or not (0 <= meant <= self.last_class or meant == IGNORED)
        ]
        return set(found.values()) - {IGNORED}, invalid


def check_mask(path: Path, size: tuple[int, int], rules: MaskRules) -> tuple[list[int], bool]:
    """Return the classes in a mask, and whether any pixel is not ignored. Raises UnusableImage.

    `size` is the width and height of the image to which the mask belongs.
    """
    mask = read_mask(path)
    if mask is None:
        raise UnusableImage("OpenCV cannot read its format; save it as an 8-bit PNG with one channel")
    height, width = mask.shape[:2]
    if (width, height) != size:
        sizes = f"{width} x {height} pixels, its image {size[0]} x {size[1]}"
        raise UnusableImage(f"the mask has {sizes}; give both the same size")
    if mask.dtype.kind not in "ui":
        raise UnusableImage("its pixels are fractions, not class ids; save it as an 8-bit PNG")
    meant, invalid = rules.read_ids(mask)
    if invalid:
        listed = list_some(invalid, _LISTED_IDS)
        raise UnusableImage(
            f"pixels have the ids {listed}, which stand for no class: names has {rules.classes} classes, so "
            f"classes are 0..{rules.last_class}, and {IGNORED} is ignored; correct the mask, or map the ids "
            "with label_mapping in the data YAML"
        )
    classes = sorted(meant) if rules.classes > 1 else [0] * (1 in meant)
    return classes, bool(meant)


def _find_distinct(mask: np.ndarray) -> list[int]:
    """Return the distinct numbers in a mask, nine times as fast as `np.unique`, which sorts the pixels."""
    import numpy as np

    if mask.dtype not in (np.uint8, np.uint16):
        found: list[int] = np.unique(mask).tolist()
        return found
    seen = np.zeros(1 << (8 * mask.dtype.itemsize), bool)
    seen[mask] = True
    numbers: list[int] = np.flatnonzero(seen).tolist()
    return numbers


def read_mask(path: Path) -> np.ndarray | None:
    """Return the ids of a mask's pixels, as Ultralytics reads them; None if OpenCV cannot decode the mask."""
    import cv2
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        mode = image.mode
        if mode == _PALETTE:
            colours = np.array(image.getpalette()).reshape(-1, 3)
            # With a palette of greys the grey level is the id; with any other palette, the index is.
            return np.array(image.convert("L") if (colours == colours[:, :1]).all() else image)
    mask: np.ndarray | None = cv2.imread(str(path), cv2.IMREAD_ANYDEPTH)
    return mask // _WHITE if mode == _ONE_BIT and mask is not None else mask


def read_mask_keys(data: Mapping[str, Any], classes: int) -> dict[str, Any]:
    """Check the mask keys of a data YAML, and return those that are set. Raises ValueError.

    Without `masks_dir`, whose default the caller has set, the other keys are ignored.
    """
    if classes > _MOST_CLASSES:
        raise ValueError(
            f"names: {classes} classes exceed the limit of {_MOST_CLASSES} for the task semantic (256 "
            "values, less one for ignored pixels and one for the background); merge classes"
        )
    folder = data.get("masks_dir")
    if not folder:
        return {}
    mapping = _parse_mapping(data.get("label_mapping"))
    return {"masks_dir": _parse_folder(folder)} | ({"label_mapping": mapping} if mapping else {})


def _parse_folder(given: object) -> str:
    try:
        if not isinstance(given, str):
            raise ValueError("it is not a string")  # noqa: TRY004, TRY301 - the except clause completes it
        return "/".join(split_safely(given.strip("/")))
    except ValueError as error:
        raise ValueError(
            f"masks_dir: {show_value(given)} must name the folder that takes the place of `images` in the "
            f"masks' paths, for example masks, but {error}"
        ) from None


def _parse_mapping(given: object) -> dict[int, int]:
    """Return the class id for each id in the masks. As in Ultralytics, null means IGNORED."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ValueError(  # noqa: TRY004 - callers expect ValueError
            f"label_mapping: {show_value(given)} must map the ids in the masks to class ids, or to "
            "ignore_label"
        )
    return dict(_parse_entry(source, target) for source, target in given.items())


def _parse_entry(source: object, target: object) -> tuple[int, int]:
    is_ignored = target is None or (isinstance(target, str) and target.strip() == "ignore_label")
    try:
        number, meant = int(source), IGNORED if is_ignored else int(target)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        number, meant = 0, -1
    if not 0 <= meant <= IGNORED:
        raise ValueError(
            f"label_mapping: the entry {show_value(source)}: {show_value(target)} must map an id in the "
            f"masks to a class id, to {IGNORED} or to ignore_label"
        )
    return number, meant

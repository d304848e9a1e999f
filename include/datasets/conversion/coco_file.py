"""Reads a COCO annotation file in bounded memory, without trusting anything in the file."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from include.datasets.conversion.json_stream import iterate_arrays
from include.datasets.conversion.outlines import is_pixel
from include.datasets.disk import is_passing
from include.datasets.layouts.samples import is_image
from include.datasets.names import is_ignored, split_safely
from include.datasets.progress import ProgressLog
from include.datasets.text import open_regular
from include.limits import (
    ARCHIVE_BYTES,
    CLASS_NAME,
    CLASSES,
    COCO_VALUE,
    IMAGE_PIXELS,
    IMAGES,
    KEYPOINTS,
)
from include.plain_text import is_one_line
from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from include.datasets.conversion.problems import Problems

_PARTS = {"images", "categories", "annotations"}
_ONE_OF = {"images": "image", "categories": "category"}


@dataclass(frozen=True)
class Category:
    """A class."""

    name: str
    """Becomes the class name."""
    above: str | None
    """Name of the supercategory."""
    keypoints: tuple[str, ...]
    """Names of the keypoints; empty if the category has none."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image as the file describes it."""

    name: str
    """Relative to a folder that the annotation file does not specify."""
    width: int
    """In pixels."""
    height: int
    """In pixels."""


@dataclass
class CocoFile:
    """The categories and images of an annotation file."""

    path: Path
    """Path of the file on this machine, with all links resolved."""
    name: str
    """Relative to the dataset."""
    categories: dict[int, Category] = field(default_factory=dict)
    """The categories by their ids."""
    images: dict[int | str, Image] = field(default_factory=dict)
    """The images by their ids."""

    def read_annotations(self) -> Iterator[Any]:
        """Yield the annotations. Raises ValueError and OSError."""
        for _, elements in _read_arrays(self.path, {"annotations"}):
            yield from elements


@dataclass(frozen=True)
class OtherFile:
    """A JSON file that does not appear to be a COCO file."""

    name: str
    """Relative to the dataset."""
    problem: str | None = None
    """Why it cannot be read; None if it can."""
    is_half: bool = False
    """Whether it has either images or annotations, but not both."""


def read_coco_file(path: Path, name: str, problems: Problems) -> CocoFile | OtherFile:
    """Read everything but the annotations.

    A file that cannot be read as far as its images or annotations does not count as a COCO file. Invalid
    images and categories are added to `problems` and skipped. Raises OSErrors after which a retry may
    succeed.
    """
    file, parts = CocoFile(path, name), set[str]()
    progress = ProgressLog(f"Looking through {name}", None, "entries")
    try:
        for key, elements in _read_arrays(path, _PARTS):
            parts.add(key)
            for element in elements:
                progress.advance()
                if key != "annotations":
                    _read_element(file, key, element, problems)
                if len(file.images) > IMAGES:
                    limit = f"the limit of {IMAGES:,} images"
                    problems.add(f"it exceeds {limit}; split it into several files", name)
                    return file
    except (ValueError, OSError) as problem:
        if is_passing(problem):
            raise
        if "images" not in parts and "annotations" not in parts:
            return OtherFile(name, problem=str(problem))
        problems.add(f"the file cannot be read: {problem}; export it again", name)
        return file
    if not {"images", "annotations"} <= parts:
        return OtherFile(name, is_half=not parts.isdisjoint({"images", "annotations"}))
    if not file.categories:
        problems.add("the file has no categories, so classes have no names; export it with categories", name)
    return file


def _read_arrays(path: Path, wanted: set[str]) -> Iterator[tuple[str, Iterator[Any]]]:
    with io.TextIOWrapper(open_regular(path, ARCHIVE_BYTES), "utf-8-sig") as text:
        yield from iterate_arrays(text, wanted, COCO_VALUE)


def identify(element: Any) -> str:
    """Return an element's id as messages show it."""
    return show_value(element.get("id") if isinstance(element, dict) else element, 40)


def _read_element(file: CocoFile, key: str, element: Any, problems: Problems) -> None:
    try:
        if key == "images":
            _read_image(file, element)
        else:
            _read_category(file, element)
    except ValueError as problem:
        problems.add(str(problem), f"{file.name}: {_ONE_OF[key]} {identify(element)}")


def _read_image(file: CocoFile, element: Any) -> None:
    given = _require_object(element)
    key, name = given.get("id"), given.get("file_name")
    if type(key) is not int and not isinstance(key, str):
        raise ValueError("id must be a whole number or a string")
    if key in file.images:
        raise ValueError("another image has the same id, so annotations that refer to it are ambiguous")
    if not isinstance(name, str):
        raise ValueError("file_name is missing; give the image's path relative to the image folder")  # noqa: TRY004
    file.images[key] = Image(_parse_image_name(name), *_parse_size(given))


def _parse_image_name(given: str) -> str:
    """Return a file name as a path without '.' parts.

    Raises ValueError if the name could lead out of the dataset, is hidden, or is not the name of an image.
    """
    try:
        parts = split_safely(given)
    except ValueError as problem:
        raise ValueError(f"its file name is refused: {problem}; use a path inside the dataset") from None
    if is_ignored(parts) or not is_image(parts[-1]):
        raise ValueError(
            "its file name is not one that Ultralytics reads as an image; rename the file, or convert it to "
            "JPEG or PNG"
        )
    return "/".join(parts)


def _parse_size(given: Mapping[str, Any]) -> tuple[int, int]:
    for key in ("width", "height"):
        if given.get(key) is None:
            raise ValueError(f"{key} is missing; add the image's width and height in pixels")
    width, height = given["width"], given["height"]
    if not all(is_pixel(side) and side >= 1 and side == int(side) for side in (width, height)):
        raise ValueError("width and height must be whole numbers of pixels, at least 1")
    if width * height > IMAGE_PIXELS:
        raise ValueError(f"it exceeds the limit of {IMAGE_PIXELS // 10**6} megapixels")
    return int(width), int(height)


def _read_category(file: CocoFile, element: Any) -> None:
    given = _require_object(element)
    key, name, above = given.get("id"), given.get("name"), given.get("supercategory")
    if type(key) is not int:
        raise ValueError("id must be a whole number")
    if not isinstance(name, str) or not 0 < len(name) <= CLASS_NAME or not is_one_line(name):
        raise ValueError(f"name must be a single-line string of 1 to {CLASS_NAME} characters")
    if len(file.categories) >= CLASSES:
        raise ValueError(f"the file exceeds the limit of {CLASSES:,} categories")
    keypoints = given.get("keypoints") or []
    if not isinstance(keypoints, list) or len(keypoints) > KEYPOINTS:
        raise ValueError(f"keypoints must be a list of at most {KEYPOINTS:,} names")
    names = tuple(str(point) for point in keypoints if isinstance(point, str | int))
    found = Category(name, above if isinstance(above, str) else None, names)
    if file.categories.setdefault(key, found).name != name:
        raise ValueError("another category has the same id but a different name; give each its own id")


def _require_object(element: Any) -> Mapping[str, Any]:
    if not isinstance(element, dict):
        raise ValueError("it is not an object with keys")  # noqa: TRY004 - callers expect ValueError
    return element

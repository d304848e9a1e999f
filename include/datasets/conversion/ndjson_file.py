"""Reads an .ndjson export, an untrusted file: first a line about the dataset, then a line for each image."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from include.datasets.rules import SPLITS
from include.datasets.text import open_regular
from include.limits import ARCHIVE_BYTES, CLASS_NAME, CLASSES, IMAGES, KEYPOINTS, NDJSON_LINE
from include.plain_text import is_one_line
from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from include.datasets.rules import Split
    from include.ultralytics_tasks import Task

PLATFORM = "https://platform.ultralytics.com/"
"""Prefix of the URLs of datasets on Ultralytics Platform, the same as in Ultralytics' code."""
_FORM = '{"type": "dataset", "task": "detect", "class_names": {"0": …}}'


@dataclass(frozen=True)
class Header:
    """The first line, which describes the dataset."""

    task: str
    """As given, so it may be none of Ultralytics' tasks; `detect` if the line has none."""
    class_names: dict[int, str]
    """Names by class id; not every class needs one."""
    extras: Mapping[str, Any]
    """Keys that are also keys of a data YAML."""
    depth_scale: float
    """The divisor that converts the values in a depth map to metres."""
    is_from_platform: bool
    """Whether Ultralytics Platform wrote the export. Platform names each file by a hash of its content."""


@dataclass(frozen=True, slots=True)
class Record:
    """One image."""

    line: int
    """Number of its line in the export, counted from 1."""
    split: Split
    """As given; images of train may be moved to val later."""
    file: str
    """The image's file name."""
    url: str
    """URL of the image, as given; it may contain a signature."""
    annotations: Mapping[str, Any]
    """Lists of labels, by their kind."""
    depth_url: str | None
    """URL of the depth map; None for all tasks except depth."""

    def read_class_id(self) -> int | None:
        """Return the class of an image for classify; None if it has none. Raises ValueError."""
        given = self.annotations.get("classification")
        if not given:
            return None
        if not isinstance(given, list) or type(given[0]) is not int or not 0 <= given[0] < CLASSES:
            raise ValueError(f"classification must be a list with a class id from 0 to {CLASSES - 1:,}")
        return given[0]


def read_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Yield the lines that are not blank, with their numbers from 1. Raises ValueError and OSError."""
    with open_regular(path, ARCHIVE_BYTES) as file:
        for number in range(1, 3 * IMAGES + 2):
            line = file.readline(NDJSON_LINE + 1)
            if not line:
                return
            if len(line) > NDJSON_LINE:
                raise ValueError(f"line {number} exceeds the limit of {NDJSON_LINE:,} bytes")
            if line.strip():
                yield number, _parse(line, number)
    raise ValueError(f"it exceeds the limit of {3 * IMAGES:,} lines; split it into several datasets")


def _parse(line: bytes, number: int) -> Mapping[str, Any]:
    try:
        value = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ValueError(f"line {number} is not valid UTF-8") from None
    except (ValueError, RecursionError):
        raise ValueError(f"line {number} is not valid JSON") from None
    if not isinstance(value, dict):
        raise ValueError(f"line {number} is not a JSON object")  # noqa: TRY004 - callers expect ValueError
    return value


def read_header(given: Mapping[str, Any]) -> Header:
    """Check the first line. Raises ValueError."""
    if "class_names" not in given and {"file", "annotations"} & set(given):
        raise ValueError(f"the first line is an image, but it must describe the dataset: {_FORM}")
    if given.get("path") is not None:
        raise ValueError(
            "path refers to local files, which are not read; export the dataset with URLs, or give "
            "the dataset's folder with its data YAML instead"
        )
    task = given.get("task", "detect")
    if not isinstance(task, str):
        raise ValueError(f"task: {show_value(task)} must be a string")  # noqa: TRY004
    scale = given.get("depth_scale", 1000)
    if type(scale) not in {int, float} or not 0 < scale < math.inf:
        raise ValueError(f"depth_scale must be a positive number, not {show_value(scale)}")
    kept = ("kpt_shape", "flip_idx", "kpt_names", "kpt_oks_sigmas", "channels")
    extras = {key: given[key] for key in kept if given.get(key) is not None}
    is_from_platform = str(given.get("url")).startswith(PLATFORM)
    return Header(task, _parse_class_names(given.get("class_names") or {}), extras, scale, is_from_platform)


def _parse_class_names(given: Any) -> dict[int, str]:
    if not isinstance(given, dict):
        raise ValueError(f"class_names: {show_value(given)} must map class ids to names")  # noqa: TRY004
    names = {}
    for key, name in given.items():
        if not key.isdecimal() or not key.isascii() or len(key) > 9 or int(key) >= CLASSES:
            raise ValueError(f"class_names: {show_value(key)} must be a class id from 0 to {CLASSES - 1:,}")
        if not isinstance(name, str | int | float) or not 0 < len(str(name)) <= CLASS_NAME:
            raise ValueError(f"class_names: class {key} has no usable name: {show_value(name)}")
        if not is_one_line(str(name)):
            raise ValueError(f"class_names: the name of class {key} contains a control character")
        names[int(key)] = str(name)
    return names


def read_record(line: int, given: Mapping[str, Any], task: Task) -> Record:
    """Check the line of an image, and return the image.

    Raises ValueError, with the same message for all problems of one kind.
    """
    split, file, url = given.get("split"), given.get("file"), given.get("url")
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}; correct it")
    if not isinstance(file, str) or not file:
        raise ValueError("file is missing; give the image's file name")
    if not isinstance(url, str) or not url:
        raise ValueError("url is missing; export the dataset with the URLs of its images")
    annotations = given.get("annotations") or {}
    if not isinstance(annotations, dict):
        raise ValueError("annotations must be an object with a list of labels")  # noqa: TRY004
    depth = given.get("depth")
    depth_url = depth.get("url") if isinstance(depth, dict) else None
    if task == "depth" and not (isinstance(depth_url, str) and depth_url):
        raise ValueError("depth.url is missing; export the dataset with the URLs of its depth maps")
    return Record(line, split, file, url, annotations, depth_url if task == "depth" else None)


def read_labels(record: Record) -> list[list[float]]:
    """Return an image's labels; if there are several kinds, only those of the first, as Ultralytics does.

    Raises ValueError.
    """
    labels: Any = next(iter(record.annotations.values()), [])
    if not isinstance(labels, list):
        raise ValueError("annotations must contain a list of labels")  # noqa: TRY004 - callers expect ValueError
    for label in labels:
        if not isinstance(label, list) or not all(type(number) in {int, float} for number in label):
            raise ValueError("a label must be a list of numbers, its class id first")
        if not all(-math.inf < number < math.inf for number in label):
            raise ValueError("a label contains a number that is not finite")
        if label and not (label[0] == int(label[0]) and 0 <= label[0] < CLASSES):
            raise ValueError(f"a class id must be a whole number from 0 to {CLASSES - 1:,}")
    return [label for label in labels if label]


def infer_keypoints(points: list[list[float]]) -> list[int] | None:
    """Infer `kpt_shape` from the numbers that follow the boxes of pose labels, as Ultralytics does.

    Returns None if that is impossible.
    """
    lengths = {len(numbers) for numbers in points}
    if len(lengths) != 1 or (count := lengths.pop()) > 3 * KEYPOINTS:
        return None
    if count % 3 == 0 and all(value in {0, 1, 2} for numbers in points for value in numbers[2::3]):
        return [count // 3, 3]
    return [count // 2, 2] if count % 2 == 0 and count % 3 else None

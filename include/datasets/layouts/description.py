"""Reads a data YAML, in the forms that `check_det_dataset` of ultralytics/data/utils.py accepts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from include.datasets.checking.depths import read_depth_keys
from include.datasets.checking.keypoints import read_keypoints
from include.datasets.checking.label_files import DEPTHS, MASKS, TEXT, locate_masks
from include.datasets.checking.masks import read_mask_keys
from include.datasets.errors import DatasetError
from include.datasets.layouts.data_yaml import load_yaml
from include.limits import CHANNELS, CLASS_NAME, CLASSES, FOLDER_DEPTH, PATH_BYTES
from include.plain_text import is_one_line
from include.refusals import list_some, show_value

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from include.datasets.checking.label_files import LabelFiles
    from include.datasets.layouts.boundary import Boundary
    from include.datasets.rules import Split
    from include.ultralytics_tasks import Task


USUAL_NAMES = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")
"""File names that identify the data YAML, even among other YAML files; tried in this order."""


@dataclass(frozen=True)
class Description:
    """The content of a data YAML."""

    file: Path
    """The data YAML itself."""
    path: str | None
    """The value of the key `path`, as written."""
    splits: Mapping[Split, list[str]]
    """The paths of `train` and of the validation split, as written."""
    names: dict[int, str]
    """Class names by class id."""
    extras: Mapping[str, Any]
    """The other keys that Ultralytics reads. `masks_dir` is the name of the mask folder in the views, not in
    the dataset."""
    labels: LabelFiles
    """Where the labels of an image are."""


def find_description(folder: Path, boundary: Boundary, depth: int = 0) -> Path:
    """Find the data YAML in a folder, or in its only subfolder, which many zip programs create."""
    boundary.require_walkable(folder)
    source = boundary.source
    if depth > FOLDER_DEPTH:
        raise DatasetError(
            f"Dataset {source!r} has more than {FOLDER_DEPTH} nested folders and no data YAML; "
            "put a data.yaml into its top folder"
        )
    for name in USUAL_NAMES:
        if (folder / name).is_file():
            return folder / name
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    candidates = [path for path in visible if path.suffix.lower() in {".yaml", ".yml"} and path.is_file()]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        listed = list_some([path.name for path in candidates], 5)
        raise DatasetError(
            f"Dataset {source!r} contains several YAML files ({listed}); rename the data YAML to data.yaml"
        )
    if len(visible) == 1 and visible[0].is_dir():
        return find_description(visible[0], boundary, depth + 1)
    raise DatasetError(
        f"Dataset {source!r} contains no data YAML; put a data.yaml with train, val and names into its top "
        "folder"
    )


def read_description(
    file: Path, task: Task, source: str, split: Split, default_masks: str | None = None
) -> Description:
    """Read and check a data YAML; of its splits, only `train` and `split` are used.

    `default_masks` is used if the data YAML has no `masks_dir`. The key `download` is ignored, because
    Ultralytics would execute its value. Raises DatasetError and OSErrors.
    """
    try:
        data = load_yaml(file)
        if not isinstance(data, dict):
            raise ValueError("it must be a mapping with train, val and names")  # noqa: TRY004, TRY301 - the except clause completes it
        data["val"] = data.get("val") or data.get("validation")
        data["masks_dir"] = default_masks if data.get("masks_dir") is None else data["masks_dir"]
        names = _read_names(data)
        maps, labels = _read_maps(data, task, len(names))
        description = Description(
            file=file,
            path=_read_root(data),
            splits={name: _read_paths(data, name) for name in dict.fromkeys(("train", split))},
            names=names,
            extras=_read_extras(data, task) | maps,
            labels=labels,
        )
    except ValueError as error:
        raise DatasetError(f"Dataset {source!r}: {file.name} is not a valid data YAML: {error}") from error
    return description


def _read_root(data: Mapping[str, Any]) -> str | None:
    value = data.get("path")
    if value is not None and not (isinstance(value, str) and _is_path(value)):
        raise ValueError(f"path: {show_value(value)} must be a path of at most {PATH_BYTES} bytes")
    return value or None


def _read_paths(data: Mapping[str, Any], split: Split) -> list[str]:
    value = data.get(split)
    given: list[Any] = value if isinstance(value, list) else [value]
    if not given or not all(isinstance(path, str) and path and _is_path(path) for path in given):
        raise ValueError(
            f"{split}: {show_value(value)} must be a folder of images, a .txt list of images, or a list of "
            f"these, each a path of at most {PATH_BYTES} bytes"
        )
    return given


def _is_path(text: str) -> bool:
    return is_one_line(text) and len(text.encode()) <= PATH_BYTES


def _read_names(data: Mapping[str, Any]) -> dict[int, str]:
    names, count = data.get("names"), _read_count(data.get("nc"))
    if names is None:
        if count is None:
            raise ValueError("names is missing; list the classes as names: {0: first, 1: second}")
        names = [f"class_{index}" for index in range(count)]
    numbered = _number_names(names)
    if count is not None and count != len(numbered):
        raise ValueError(f"nc: {count} does not match the {len(numbered)} names; remove nc or correct it")
    return numbered


def _read_count(given: Any) -> int | None:
    count = _to_whole_number(given)
    if given is not None and (count is None or count < 1):
        raise ValueError(f"nc: {show_value(given)} must be the number of classes, at least 1")
    if count is not None and count > CLASSES:
        raise ValueError(f"nc: {show_value(given)} exceeds the limit of {CLASSES:,} classes")
    return count


def _to_whole_number(given: object) -> int | None:
    """Return 2 for 2 and, as Ultralytics allows, for 2.0, '2' and '2.0'; None if it is not a whole number."""
    if isinstance(given, bool) or not isinstance(given, int | float | str):
        return None
    try:
        number = float(given)
    except (ValueError, OverflowError):
        return None
    return int(number) if number.is_integer() else None


def _number_names(names: object) -> dict[int, str]:
    if not isinstance(names, list | dict) or not names:
        raise ValueError(
            f"names: {show_value(names)} must be a list or a mapping of class ids to names, with at least "
            "one class"
        )
    if len(names) > CLASSES:
        raise ValueError(f"names: {len(names):,} classes exceed the limit of {CLASSES:,}")
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    try:
        numbered = {int(key): name for key, name in pairs}
    except (TypeError, ValueError, OverflowError):
        raise ValueError("names: the keys must be class ids 0, 1, 2, …") from None
    if sorted(numbered) != list(range(len(names))):
        raise ValueError(
            f"names: the class ids must be 0 to {len(names) - 1} without gaps, not "
            f"{show_value(sorted(numbered))}"
        )
    return {key: _read_class_name(key, numbered[key]) for key in sorted(numbered)}


def _read_class_name(key: int, given: object) -> str:
    if not isinstance(given, str | int | float | date):
        raise ValueError(f"names: class {key} has no usable name: {show_value(given)}")  # noqa: TRY004 - callers expect ValueError
    name = str(given)
    if not name or len(name) > CLASS_NAME or not is_one_line(name):
        raise ValueError(
            f"names: class {key} has no usable name: {show_value(name)}; give it 1 to {CLASS_NAME} "
            "characters, none of them a control character"
        )
    return name


def _read_extras(data: Mapping[str, Any], task: Task) -> dict[str, Any]:
    """Return the other keys that Ultralytics reads: channels and, with a kpt_shape, those of keypoints."""
    channels = 3 if data.get("channels") is None else data["channels"]
    if type(channels) is not int or not 1 <= channels <= CHANNELS:
        raise ValueError(
            f"channels: {show_value(channels)} must be the number of image channels, 1 to {CHANNELS}"
        )
    if data.get("kpt_shape") is None:
        if task == "pose":
            raise ValueError(
                "kpt_shape is missing; pose needs [number of keypoints, 2 or 3]: 2 for x and y, 3 if "
                "visibility is included"
            )
        return {"channels": channels}
    return {"channels": channels} | read_keypoints(data)


def _read_maps(data: Mapping[str, Any], task: Task, classes: int) -> tuple[dict[str, Any], LabelFiles]:
    """Return the keys that describe masks or depth maps, and where the labels of the task are."""
    if task == "depth":
        return read_depth_keys(data), DEPTHS
    keys = read_mask_keys(data, classes) if task == "semantic" else {}
    return (keys | {"masks_dir": MASKS}, locate_masks(keys["masks_dir"])) if keys else ({}, TEXT)

"""Reads a data YAML. What is accepted follows `check_det_dataset` of ultralytics/data/utils.py."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from include.datasets.errors import DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SPLITS = ("train", "val")
_USUAL_NAMES = ("data.yaml", "dataset.yaml", "data.yml", "dataset.yml")
_KEYPOINT_KEYS = ("kpt_shape", "flip_idx", "kpt_names", "kpt_oks_sigmas")


@dataclass(frozen=True)
class Description:
    """What a data YAML says.

    splits maps train and val to paths as written; extras are further keys that Ultralytics reads.
    """

    file: Path
    path: str | None
    splits: Mapping[str, list[str]]
    names: dict[int, str]
    extras: Mapping[str, Any] = field(default_factory=dict)


def find_description(folder: Path, source: str) -> Path:
    """Find the data YAML of a folder; a single folder inside, as zip programs make it, is looked into."""
    for name in _USUAL_NAMES:
        if (folder / name).is_file():
            return folder / name
    visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    candidates = [path for path in visible if path.suffix.lower() in {".yaml", ".yml"} and path.is_file()]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        listed = ", ".join(path.name for path in candidates[:5])
        raise DatasetError(
            f"Dataset {source!r} holds several YAML files ({listed}); name the data YAML data.yaml"
        )
    if len(visible) == 1 and visible[0].is_dir():
        return find_description(visible[0], source)
    raise DatasetError(
        f"Dataset {source!r} holds no data YAML; put a data.yaml with train, val and names into its top "
        "folder"
    )


def read_description(file: Path, task: str, source: str) -> Description:
    """Read and check a data YAML. A `download` key is ignored: Ultralytics would run what it says."""
    try:
        data = yaml.safe_load(file.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DatasetError(
            f"Dataset {source!r}: {file.name} cannot be read as YAML in UTF-8: {error}"
        ) from error
    try:
        if not isinstance(data, dict):
            raise ValueError("it must be a mapping with train, val and names")  # noqa: TRY004, TRY301  one sentence for all
        data["val"] = data.get("val") or data.get("validation")
        description = Description(
            file=file,
            path=_text_or_none(data, "path"),
            splits={split: _paths(data, split) for split in SPLITS},
            names=_names(data),
            extras=_extras(data, task),
        )
    except ValueError as error:
        raise DatasetError(f"Dataset {source!r}: {file.name} is not a good data YAML: {error}") from error
    return description


def _text_or_none(data: Mapping[str, Any], key: str) -> str | None:
    value = data.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key}: {value!r} must be a path")
    return value or None


def _paths(data: Mapping[str, Any], split: str) -> list[str]:
    value = data.get(split)
    paths = [
        path for path in (value if isinstance(value, list) else [value]) if isinstance(path, str) and path
    ]
    if not paths or (isinstance(value, list) and len(paths) != len(value)):
        raise ValueError(
            f"{split}: {value!r} must be a folder of images, a .txt list of images, or a list of these"
        )
    return paths


def _names(data: Mapping[str, Any]) -> dict[int, str]:
    names, count = data.get("names"), data.get("nc")
    if isinstance(count, float) and count.is_integer():
        count = int(count)
    if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 1):
        raise ValueError(f"nc: {count!r} must be the number of classes, at least 1")
    if names is None:
        if count is None:
            raise ValueError("names is missing; list the classes as names: {0: first, 1: second}")
        names = [f"class_{index}" for index in range(count)]
    numbered = _numbered(names)
    if count is not None and count != len(numbered):
        raise ValueError(f"nc: {count} and the {len(numbered)} names disagree; remove nc or correct it")
    return numbered


def _numbered(names: object) -> dict[int, str]:
    if not isinstance(names, list | dict) or not names:
        raise ValueError(
            f"names: {names!r} must be a list or a mapping of class ids to names, with one class at least"
        )
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    try:
        numbered = {int(key): name for key, name in pairs}
    except (TypeError, ValueError):
        raise ValueError("names: the keys must be class ids 0, 1, 2, …") from None
    if sorted(numbered) != list(range(len(names))):
        raise ValueError(
            f"names: the class ids must be 0 to {len(names) - 1} without gaps, not {sorted(numbered)[:10]}"
        )
    for key, name in numbered.items():
        if name is None or isinstance(name, list | dict) or str(name) == "":
            raise ValueError(f"names: class {key} has no usable name: {name!r}")
    return {key: str(numbered[key]) for key in sorted(numbered)}


def _extras(data: Mapping[str, Any], task: str) -> dict[str, Any]:
    """What else Ultralytics reads; without kpt_shape nothing about keypoints means anything."""
    channels = 3 if data.get("channels") is None else data["channels"]
    if type(channels) is not int or channels < 1:
        raise ValueError(f"channels: {channels!r} must be the number of image channels")
    shape, flip = data.get("kpt_shape"), data.get("flip_idx")
    if shape is None:
        if task == "pose":
            raise ValueError(
                "kpt_shape is missing; pose needs it as [number of keypoints, 2 for x, y or 3 with "
                "visibility]"
            )
        return {"channels": channels}
    if not _is_keypoint_shape(shape):
        raise ValueError(f"kpt_shape: {shape!r} must be [number of keypoints, 2 or 3]")
    if flip and not _is_permutation(flip, shape[0]):
        raise ValueError(
            f"flip_idx: {flip!r} must name each of the {shape[0]} keypoints of kpt_shape once, as it is "
            "after mirroring"
        )
    return {"channels": channels} | {key: data[key] for key in _KEYPOINT_KEYS if data.get(key)}


def _is_keypoint_shape(shape: object) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) == 2
        and all(type(number) is int for number in shape)
        and shape[0] > 0
        and shape[1] in {2, 3}
    )


def _is_permutation(flip: object, count: int) -> bool:
    return (
        isinstance(flip, list)
        and all(type(index) is int for index in flip)
        and sorted(flip) == list(range(count))
    )

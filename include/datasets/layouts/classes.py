"""The dataset layout for classify: one folder per class, in train/ and val/ or without splits.

Without splits, the images of each class are divided as `split_classify_dataset` of ultralytics/data/split.py
divides them: 80 % of them, rounded down, are for training.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from operator import itemgetter
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from include.datasets.checking.findings import Finding
from include.datasets.errors import DatasetError
from include.datasets.layouts.boundary import Boundary
from include.datasets.layouts.samples import Layout, find_images_below, resolve_samples, warn_of_skipped
from include.datasets.layouts.unused import find_classless_images
from include.limits import CLASSES, FOLDER_DEPTH, IMAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from include.datasets.layouts.samples import DatasetLocation, Sample
    from include.datasets.rules import Split

_NamedImage = tuple[str, None, str]
"""An image, its label file (None for classify), and its name in the split, beginning with the class."""

_TRAINED = 0.8
"""The share of each class's images that are for training if there are no splits."""

# The folders in which check_cls_dataset looks for a split, in this order.
_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("val", "validation", "valid", "test"),
    "test": ("test", "val", "validation", "valid"),
}


def read_class_folders(location: DatasetLocation, split: Split) -> Layout:
    """Find all training images, and the images of the validation split `split`.

    The classes are the folders of train/ that contain images, in torchvision's order.
    """
    if location.path.is_file():
        raise DatasetError(
            f"Dataset {location.source!r} is a YAML file, but classify needs a folder with train/ and val/ "
            "that contain a folder for each class"
        )
    root = _find_root(location.path, Boundary(location.folder, location.source, location.barred))
    # A new Boundary: the first one has recorded what `_find_root` skipped, which would be counted twice.
    boundary = Boundary(location.folder, location.source, location.barred)
    folders, images = _find_splits(root, split, boundary)
    splits = {name: resolve_samples(found, boundary) for name, found in images.items()}
    names = sorted({_get_class(sample.name) for sample in splits["train"]})
    if len(names) > CLASSES:
        raise DatasetError(
            f"Dataset {location.source!r}: train/ has {len(names):,} class folders, more than the limit of "
            f"{CLASSES:,} classes"
        )
    _require_complete(location.source, names, folders, splits)
    warnings = (
        *warn_of_skipped(boundary),
        *find_classless_images(folders.values(), boundary),
        *_warn_of_empty_folders(folders["train"], names),
        *(_warn_of_division(splits) if folders["train"] == root else ()),
    )
    return Layout(root, "classify", dict(enumerate(names)), splits, validation=split, warnings=warnings)


def _find_splits(
    root: Path, split: Split, boundary: Boundary
) -> tuple[dict[Split, Path], dict[Split, Iterable[_NamedImage]]]:
    """Return the folder and the images of each split: train and the validation split."""
    folders: dict[Split, Path] = {"train": root / "train"}
    if folders["train"].is_dir():
        if split not in folders:
            folders[split] = _find_validation(root, split, boundary.source)
        return folders, {name: _list_images(folder, boundary) for name, folder in folders.items()}
    train, rest = _divide(_list_images(root, boundary))
    images: dict[Split, Iterable[_NamedImage]] = {"train": train}
    if split != "train":
        images[split] = rest
    return dict.fromkeys(images, root), images


def _divide(images: Iterable[_NamedImage]) -> tuple[list[_NamedImage], list[_NamedImage]]:
    """Return the training images and the validation images, both in the order of their names."""
    classes: defaultdict[str, list[_NamedImage]] = defaultdict(list)
    for image in images:
        classes[_get_class(image[2])].append(image)
    train: list[_NamedImage] = []
    rest: list[_NamedImage] = []
    for found in classes.values():
        found.sort(key=lambda image: PurePath(image[2]).parts)
        random.Random(0).shuffle(found)  # noqa: S311 - no secret depends on it
        end = int(len(found) * _TRAINED)
        train += found[:end]
        rest += found[end:]
    return sorted(train, key=itemgetter(2)), sorted(rest, key=itemgetter(2))


def _find_validation(root: Path, split: Split, source: str) -> Path:
    found = next((root / name for name in _FOLDERS[split] if (root / name).is_dir()), None)
    if found is None:
        raise DatasetError(
            f"Dataset {source!r} has no {split}/ next to train/; move some of the images there"
        )
    return found


def _get_class(name: str) -> str:
    return name.partition("/")[0]


def _warn_of_empty_folders(train: Path, names: Sequence[str]) -> Iterator[Finding]:
    for name in _list_visible_folders(train):
        if name not in names:
            yield Finding(f"{train.name}/{name}/", None, "there is no image in it", "empty-folders")


def _warn_of_division(splits: Mapping[Split, tuple[Sample, ...]]) -> Iterator[Finding]:
    counts = " and ".join(f"{len(samples):,} for {split}" for split, samples in splits.items())
    yield Finding(
        "the class folders", None, f"there is no train/, so their images are divided: {counts}", "divided"
    )


def _find_root(folder: Path, boundary: Boundary, depth: int = 0) -> Path:
    boundary.require_walkable(folder)
    if (folder / "train").is_dir():
        return folder
    visible = _list_visible_folders(folder)
    if len(visible) == 1 and depth < FOLDER_DEPTH:
        return _find_root(folder / visible[0], boundary, depth + 1)
    filled = [name for name in visible if any(find_images_below(folder / name, boundary))]
    if len(filled) > 1 and not set(filled) & set(_FOLDERS["val"]):
        return folder
    raise DatasetError(
        f"Dataset {boundary.source!r} has no train/; classify needs train/ and val/, each with a folder "
        "for each class, or the class folders alone"
    )


def _list_visible_folders(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _list_images(split: Path, boundary: Boundary) -> Iterator[_NamedImage]:
    boundary.require_walkable(split)
    number = 0
    for name in _list_visible_folders(split):
        for image in find_images_below(split / name, boundary):
            number += 1
            if number > IMAGES:
                raise DatasetError(
                    f"Dataset {boundary.source!r} exceeds the limit of {IMAGES:,} images in one split; "
                    "divide the dataset"
                )
            yield f"{split}{os.sep}{name}{os.sep}{image}", None, f"{name}/{image}"


def _require_complete(
    source: str,
    names: Sequence[str],
    folders: Mapping[Split, Path],
    splits: Mapping[Split, tuple[Sample, ...]],
) -> None:
    findings = [
        Finding(f"{folder.name}/", None, "none of the class folders contains an image", "class-folders")
        for split, folder in folders.items()
        if not splits[split]
    ]
    known = set(names)
    for split, folder in folders.items():
        unknown = sorted({_get_class(sample.name) for sample in splits[split]} - known)
        findings += [
            Finding(
                f"{folder.name}/{name}/",
                None,
                "there is no class of this name in train/, so Ultralytics would skip its images",
                "class-folders",
            )
            for name in unknown
        ]
    if findings:
        raise DatasetError.from_findings(source, findings)

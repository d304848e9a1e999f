"""Finds the annotation files of a COCO dataset, their splits, and the images that they name.

Each tool lays out a COCO dataset in its own way:

    annotations/instances_train2017.json, train2017/*.jpg    COCO itself; also images/train2017/
    train/_annotations.coco.json, train/*.jpg                Roboflow
    annotations/instances_default.json, images/default/*     CVAT
    result.json, images/*                                    Label Studio
    labels.json, data/*                                      FiftyOne
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path, PurePosixPath
from posixpath import dirname, join
from typing import TYPE_CHECKING

from include.datasets.layouts.samples import is_image, raise_error
from include.datasets.names import is_ignored
from include.limits import FOLDER_DEPTH

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from include.datasets.layouts.boundary import Boundary
    from include.datasets.rules import Split
    from include.ultralytics_tasks import Task


_WORDS: dict[str, Split] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_OTHER_CONTENTS = ("captions", "image_info", "panoptic", "stuff")
"""COCO annotation files whose names start with one of these prefixes contain no objects."""

_TRIED = 200
"""How many of an annotation file's images are looked up to find their folder."""


@dataclass(frozen=True)
class Tree:
    """The JSON files and images of a dataset, by their paths relative to its folder."""

    folder: Path
    """Path of the dataset's folder on this machine."""
    annotations: tuple[str, ...]
    """The JSON files, in the order of their paths."""
    images: frozenset[str]
    """The files that Ultralytics treats as images."""


def walk(folder: Path, boundary: Boundary) -> Tree:
    """List the JSON files and images below `folder`, except in folders nested deeper than FOLDER_DEPTH.

    Raises OSErrors, and DatasetError for a link to a folder that is outside the dataset or contains the link.
    """
    annotations, images = list[str](), set[str]()
    boundary.require_walkable(folder)
    for parent, folders, files in os.walk(folder, onerror=raise_error, followlinks=True):
        inner = os.path.relpath(parent, folder)
        depth = 0 if inner == "." else inner.count(os.sep) + 1
        folders[:] = (
            sorted(name for name in folders if not is_ignored((name,))) if depth < FOLDER_DEPTH else []
        )
        for name in folders:
            boundary.require_walkable(Path(parent, name))
        for name in files:
            if is_ignored((name,)):
                continue
            path = name if inner == "." else f"{inner}{os.sep}{name}"
            if is_image(name):
                images.add(path)
            elif name.lower().endswith(".json"):
                annotations.append(path)
    return Tree(folder, tuple(sorted(annotations)), frozenset(images))


def find_split(name: str) -> Split | None:
    """Return the split that a file's name indicates.

    If it indicates none, the names of the folders above the file decide, the nearest first.
    """
    path = PurePosixPath(name)
    return _find_split_in(path.stem, *(parent.name for parent in path.parents))


def find_split_of_image(name: str) -> Split | None:
    """Return the split that the names of the folders above an image indicate, the nearest first."""
    return _find_split_in(*(parent.name for parent in PurePosixPath(name).parents))


def _find_split_in(*parts: str) -> Split | None:
    for part in parts:
        found = {_WORDS[word] for word in re.findall(r"[a-z]+", part.lower()) if word in _WORDS}
        if len(found) == 1:
            return found.pop()
    return None


def choose_files(names: Sequence[str], task: Task, named: str | None) -> list[str]:
    """Return the JSON files that may contain the dataset's annotations, judging by their names.

    COCO has several files for the same images: with outlines (instances), with keypoints, or without objects.
    A file that the user named is returned with its counterparts for other splits. If its path indicates no
    split, it is returned alone.
    """
    if named is not None:
        if find_split(named) is None:
            return [named]
        pattern = _mask_split(named)
        return [name for name in names if _mask_split(name) == pattern]
    found = [name for name in names if not PurePosixPath(name).name.lower().startswith(_OTHER_CONTENTS)]
    keypoints = [name for name in found if "keypoints" in PurePosixPath(name).name.lower()]
    others = [name for name in found if name not in keypoints]
    return (keypoints or others) if task == "pose" else (others or keypoints)


def _mask_split(name: str) -> str:
    """Mask digits and the names of splits in a file name, so that counterparts become equal."""

    def replace(match: re.Match[str]) -> str:
        return "*" if match[0].lower() in _WORDS else match[0]

    return re.sub(r"[0-9]+", "#", re.sub(r"[A-Za-z]+", replace, name))


class ImageFinder:
    """Finds the images that one annotation file names, in all folders where tools put images.

    Images of different splits often have the same names, such as 0001.jpg. So if folders have images of the
    file's own split, according to their names, no image is taken from a folder of another split.
    """

    def __init__(self, tree: Tree, annotations: str, names: Iterable[str]) -> None:
        self._images = tree.images
        usual = list(dict.fromkeys(_list_usual_folders(annotations)))
        others = {folder for image in tree.images for folder in _list_parents(image)} - set(usual)
        tried = list(islice(names, _TRIED))
        folders = [*usual, *sorted(others)]
        hits = {folder: sum(join(folder, name) in self._images for name in tried) for folder in folders}
        split = find_split(annotations)
        own = {folder for folder in folders if split and _find_split_of_folder(folder) == split}
        self._only_split = split if any(hits[folder] for folder in own) else None
        equal: dict[tuple[int, ...], list[str]] = defaultdict(list)
        for folder in folders:
            if (hits[folder] or folder in usual) and self._is_allowed(_find_split_of_folder(folder)):
                # Of folders with the same number of hits, a more usual one comes first.
                place = usual.index(folder) if folder in usual else len(usual)
                equal[-hits[folder], place, folder not in own].append(folder)
        self._folders = [equal[key] for key in sorted(equal)]

    def find(self, name: str) -> list[str]:
        """Return the image's possible paths relative to the dataset: none if missing, several if ambiguous.

        If several likely folders have the image, the likeliest wins. Folders that are equally likely make it
        ambiguous, unless one contains the others, such as a folder of previews. If none of them has it, all
        paths in the dataset that end with the name are possible.
        """
        for folders in self._folders:
            found = [folder for folder in folders if join(folder, name) in self._images]
            if found and all(folder.startswith(f"{found[0]}/") for folder in found[1:]):
                return [join(found[0], name)]
            if found:
                return [join(folder, name) for folder in found]
        named = self._by_last_part[PurePosixPath(name).name]
        return [
            path
            for path in named
            if path.endswith(f"/{name}") and self._is_allowed(find_split_of_image(path))
        ]

    def _is_allowed(self, split: Split | None) -> bool:
        return self._only_split is None or split in {None, self._only_split}

    @cached_property
    def _by_last_part(self) -> dict[str, list[str]]:
        paths: dict[str, list[str]] = defaultdict(list)
        for path in self._images:
            paths[path.rpartition("/")[2]].append(path)
        return paths


def _find_split_of_folder(folder: str) -> Split | None:
    return find_split_of_image(join(folder, "image"))


def _list_usual_folders(annotations: str) -> Iterator[str]:
    """Yield the folders where tools put the images of an annotation file, the most usual first."""
    own = dirname(annotations)
    subset = re.sub(r"^(instances|person_keypoints)_", "", PurePosixPath(annotations).stem)
    yield own
    for base in (own, dirname(own)):
        for inner in (f"images/{subset}", subset, "images", "data"):
            yield join(base, inner)
        yield base


def _list_parents(name: str) -> Iterator[str]:
    """Yield the folders above a file, the nearest first; the last one is ""."""
    while name:
        name = dirname(name)
        yield name

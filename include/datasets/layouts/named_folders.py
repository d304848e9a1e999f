"""Finds the folders that a data YAML names. Runs in a confined process, see confinement.py.

Most errors in a data YAML are ignored here: the check reports them once the dataset is on this machine.
"""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import Any

from include.datasets.checking.label_files import DEPTHS, MASKS, TEXT
from include.datasets.errors import DatasetError
from include.datasets.layouts.data_yaml import load_yaml
from include.datasets.layouts.samples import is_image
from include.datasets.text import read_lines
from include.limits import IMAGES, LIST_BYTES, PATH_BYTES

_SPLITS = ("train", "val", "validation", "test")
_LABELS = (TEXT.folder, MASKS, DEPTHS.folder)
_MOST_LISTS = 100
_MOST_FOLDERS = 1000
"""If a list names images in more folders than this, the folders above them are returned instead."""


def name_folders(file: str, uri: str, name: str) -> dict[str, list[str]]:
    """Return every path to which the data YAML may refer, relative to the YAML's folder.

    In the result, `folders` may contain images or labels; "" is the YAML's folder. `lists` are those of the
    `folders` that may be lists of images instead. `roots` are the folders to which the paths in such lists
    may be relative. `masks` are the names of the folders of masks.
    """
    try:
        data = load_yaml(Path(file))
    except ValueError as error:
        raise DatasetError(f"Dataset {uri!r}: {name} is not a valid data YAML: {error}") from error
    if not isinstance(data, dict):
        raise DatasetError(
            f"Dataset {uri!r}: {name} is not a valid data YAML: it must be a mapping with train, val and "
            "names"
        )
    roots = [""]
    if isinstance(data.get("path"), str) and (root := _join("", data["path"])):
        roots.append(root)
    paths = [path for split in _SPLITS for path in _list_texts(data.get(split))]
    # As in check_det_dataset, a path may start with one `../` too many.
    paths += [path.removeprefix("../") for path in paths if path.startswith("../")]
    places = {place for root in roots for path in paths if (place := _join(root, path)) is not None}
    folders = {posixpath.dirname(place) if is_image(place) else place for place in places}
    lists = {place for place in folders & places if place}
    if len(lists) > _MOST_LISTS:
        raise DatasetError(
            f"Dataset {uri!r}: {name} names more than {_MOST_LISTS} folders and lists of images; name a "
            "folder that contains several of them"
        )
    masks = _list_texts(data.get("masks_dir"))
    return {
        "folders": _add_labels(folders, masks),
        "lists": sorted(lists),
        "roots": roots,
        "masks": masks,
    }


def list_folders(file: str, uri: str, name: str, roots: list[str], masks: list[str]) -> list[str]:
    """Return the folders of the images that a list names, and of their labels and masks."""
    folders: set[str] = set()
    try:
        for _, line in read_lines(Path(file), most_bytes=LIST_BYTES, most_lines=IMAGES, longest=PATH_BYTES):
            text = line.strip()
            for root in [posixpath.dirname(name)] if text.startswith("./") else roots:
                if text and (place := _join(root, text)) is not None:
                    folders.add(posixpath.dirname(place))
    except ValueError as error:
        raise DatasetError(f"Dataset {uri!r}: {name} is not a list of images: {error}") from error
    depth = max((folder.count("/") for folder in folders), default=0) + 1
    while len(folders) > _MOST_FOLDERS and depth > 1:
        depth -= 1
        folders = {"/".join(folder.split("/")[:depth]) for folder in folders}
    return _add_labels(folders, masks)


def _add_labels(images: set[str], masks: list[str]) -> list[str]:
    """Add the folders of labels. As in img2label_paths, their names replace the last `images` in a path."""
    folders = set(images)
    for folder in images:
        before, found, after = f"/{folder}/".rpartition("/images/")
        if found:
            folders |= {f"{before}/{kind}/{after}".strip("/") for kind in (*_LABELS, *masks)}
    return sorted({joined for folder in folders if (joined := _join("", folder)) is not None})


def _list_texts(value: Any) -> list[str]:
    given = value if isinstance(value, list) else [value]
    return [text for text in given if isinstance(text, str) and text and len(text.encode()) <= PATH_BYTES]


def _join(root: str, path: str) -> str | None:
    """Return the path within the data YAML's folder, "" for the folder itself; None if it leads outside."""
    joined = posixpath.normpath(posixpath.join(root, path))
    if joined.startswith(("/", "../")) or joined == "..":
        return None
    return "" if joined == "." else joined

"""Reports files that Ultralytics silently ignores: labels without an image, and images without a class."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.checking.findings import Finding
from include.datasets.layouts.boundary import resolve_links
from include.datasets.layouts.samples import is_image

if TYPE_CHECKING:
    from include.datasets.checking.label_files import LabelFiles
    from include.datasets.layouts.boundary import Boundary

_NO_LABELS = {"classes.txt", "notes.json"}
"""Files that labelling tools put beside the labels."""


def find_unused_labels(
    folders: Mapping[str, set[str]], labels: LabelFiles, boundary: Boundary
) -> Iterator[Finding]:
    """Yield a warning for each folder that contains labels without an image of the same name.

    `folders` maps each folder of labels to the folders of its images.
    """
    for folder, images in sorted(folders.items()):
        named = {_get_stem(name) for each in images for name in _list_names(each, boundary) if is_image(name)}
        unused = sum(
            name.endswith(labels.suffixes) and name not in _NO_LABELS and _get_stem(name) not in named
            for name in _list_names(folder, boundary)
        )
        if unused:
            place = f"{boundary.make_relative(Path(folder))}/"
            yield Finding(place, None, f"files that belong to no image: {unused:,}", "unused-labels")


def find_classless_images(folders: Iterable[Path], boundary: Boundary) -> Iterator[Finding]:
    """Yield a warning for each of the folders that has images outside of its class folders."""
    for folder in dict.fromkeys(folders):
        outside = sum(map(is_image, _list_names(str(folder), boundary)))
        if outside:
            place = f"{boundary.make_relative(folder)}/"
            yield Finding(
                place, None, f"images outside of the class folders: {outside:,}", "classless-images"
            )


def _list_names(folder: str, boundary: Boundary) -> Iterator[str]:
    """Yield the names of the visible files in the folder; none if it is missing or outside the dataset."""
    if boundary.contains(resolve_links(Path(folder))):
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
            yield from (each.name for each in entries if not each.name.startswith(".") and each.is_file())


def _get_stem(name: str) -> str:
    return name.rpartition(".")[0]

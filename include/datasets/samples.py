"""What a data set consists of, as it lies on this machine's disk."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from include.datasets.errors import DatasetError
from include.limits import FOLDER_DEPTH
from include.refusals import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# IMG_FORMATS of ultralytics/data/utils.py: other files are not taken for images.
IMAGE_SUFFIXES = frozenset({
    "avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp",
})  # fmt: skip


@dataclass(frozen=True)
class Sample:
    """One image of a split.

    label is where its labels belong (None for classify); name is its path within the split.
    """

    image: Path
    label: Path | None
    name: str


@dataclass(frozen=True)
class Layout:
    """A data set as it lies on this machine's disk. extras are keys of the data YAML for Ultralytics."""

    root: Path
    task: str
    names: dict[int, str]
    splits: Mapping[str, tuple[Sample, ...]]
    extras: Mapping[str, Any] = field(default_factory=dict)

    def shown(self, path: Path) -> str:
        """Write `path` for a person: relative to the data set where it can be."""
        return str(path.relative_to(self.root)) if path.is_relative_to(self.root) else str(path)


@dataclass(frozen=True)
class Place:
    """Where a data set lies: a data YAML or a folder.

    confined is the folder that it must not lead out of, for data that was fetched; None for a user's own
    path.
    """

    path: Path
    source: str
    confined: Path | None = None


def images_below(folder: Path) -> Iterator[str]:
    """Name all images below `folder`, relative to it. Hidden files do not count, nor for Ultralytics."""
    depth = str(folder).count(os.sep)
    for parent, folders, files in os.walk(folder, onerror=_raise, followlinks=True):
        if parent.count(os.sep) - depth > FOLDER_DEPTH:
            raise DatasetError(
                f"{shown(str(folder))} has more than {FOLDER_DEPTH} folders inside each other; move "
                "the images up"
            )
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if is_image(name) and not name.startswith("."):
                yield str(Path(parent, name).relative_to(folder))


def _raise(error: OSError) -> NoReturn:
    raise error


def is_image(name: str) -> bool:
    """Tell by its suffix whether Ultralytics takes a file for an image."""
    return name.rpartition(".")[2].lower() in IMAGE_SUFFIXES

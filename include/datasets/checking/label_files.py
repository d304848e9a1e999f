"""Locates the labels of an image. The name of the folder that contains them depends on the task."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class LabelFiles:
    """The place of an image's labels, relative to the image."""

    folder: str
    """The folder that replaces the last folder `images` in the image's path."""
    suffixes: tuple[str, ...]
    """The suffixes that a label file may have; the first file that exists is used."""
    in_view: str
    """The name of the labels' folder in a view, regardless of its name in the dataset."""
    are_images: bool = False
    """Whether the labels are images, or arrays that Ultralytics could load in place of an image. Such labels
    must not be in a folder of images."""

    def list_candidates(self, image: str, below: Path | None) -> list[str]:
        """Return the paths at which `image` may have labels, in the order in which Ultralytics tries them.

        For masks other than .png, Ultralytics' order varies; here, it is alphabetical. Only the part of the
        path under `below` is changed, because the folders above it may be called `images`, too.
        """
        return [build_label_path(image, below, self.folder, suffix) for suffix in self.suffixes]


TEXT = LabelFiles("labels", (".txt",), "labels")
"""Lines of text, as `YOLODataset` of ultralytics/data/dataset.py reads them."""

DEPTHS = LabelFiles("depth", (".png", ".npy"), "depth", are_images=True)
"""A distance for each pixel, as `DepthDataset` reads it."""

MASKS = "masks"
"""The default of `masks_dir`, and the `masks_dir` of every view, regardless of the dataset's."""

# IMG_FORMATS of ultralytics/data/utils.py: other files are not treated as images.
IMAGE_SUFFIXES = frozenset({
    "avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp",
})  # fmt: skip


def locate_masks(folder: str) -> LabelFiles:
    """Return the location of masks, as in `SemanticDataset`. `folder` is the data YAML's `masks_dir`."""
    suffixes = ("png", *sorted(IMAGE_SUFFIXES - {"png"}))
    return LabelFiles(folder, tuple(f".{suffix}" for suffix in suffixes), MASKS, are_images=True)


def build_label_path(
    image: str, below: Path | None, folder: str = TEXT.folder, suffix: str = TEXT.suffixes[0]
) -> str:
    """Return the path of an image's labels. As in `img2label_paths`, `folder` replaces the last `images`.

    Only the part of the path under `below` is changed.
    """
    base = str(below or "").rstrip(os.sep)
    inner = image.removeprefix(base)
    swapped = f"{os.sep}{folder}{os.sep}".join(inner.rsplit(f"{os.sep}images{os.sep}", 1))
    return f"{base}{swapped.rsplit('.', 1)[0]}{suffix}"

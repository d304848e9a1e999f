"""Assigns the images in COCO annotation files to the splits of the converted dataset."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from include.datasets.checking.decoding import ORIENTATION, SIDEWAYS
from include.datasets.conversion.coco_search import ImageFinder, find_split, find_split_of_image
from include.datasets.disk import is_passing
from include.datasets.layouts.boundary import LeadsOutside
from include.datasets.progress import ProgressLog
from include.datasets.rules import SPLITS
from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from include.datasets.conversion.coco_file import CocoFile, Image
    from include.datasets.conversion.coco_search import Tree
    from include.datasets.conversion.problems import Problems
    from include.datasets.layouts.boundary import Boundary
    from include.datasets.rules import Split

_NO_SPLIT = (
    "the split of the image is unknown; name the annotation files train.json and val.json, or put the images "
    "into folders train/ and val/"
)
_MISSING = (
    "the image is not in the dataset, and training would silently skip it; upload it, or remove it "
    "from the annotations"
)
_AMBIGUOUS = (
    "several images of the dataset have this name; in file_name, give the path relative to the dataset's "
    "folder"
)
_SAME_LABELS = (
    "another image of the split has the same name, except perhaps for the suffix, so both would share a "
    "label file; rename one"
)
_SIZES = "another entry has the same file but a different size; correct one of them"
_TURNED = (
    "its width and height are swapped in the annotations, so every label would be in the wrong place. They "
    "seem to ignore the rotation in the image's EXIF data, which training applies: remove that rotation from "
    "the image, or export annotations of the image as it is displayed"
)

_STRETCH = 0.02
"""Maximum relative difference between the aspect ratios of an image and of its size in the annotations, in
addition to the rounding of pixels."""

_DISPLAYED = {"JPEG", "MPO", "PNG", "AVIF"}
"""The formats whose orientation training always applies; for others, it depends on the image."""


@dataclass(frozen=True, slots=True)
class Target:
    """An image of the converted dataset."""

    split: Split
    """The split of the converted dataset to which the image belongs."""
    name: str
    """Relative to the folder of the split."""
    path: Path
    """Path of the original image, with all links resolved."""
    size: tuple[int, int]
    """Width and height in pixels, as in the annotation file."""

    @property
    def asset(self) -> str:
        """Name of the image in the converted dataset."""
        return f"images/{self.split}/{self.name}"


@dataclass
class Placement:
    """All images, each with its place in the converted dataset."""

    tree: Tree
    """The dataset's folder and the images in it."""
    boundary: Boundary
    """Refuses images outside the dataset."""
    problems: Problems
    """Collects the problems with images, such as those that cannot be placed."""
    targets: list[Target] = field(default_factory=list)
    """The images that were placed so far."""
    _numbers: dict[str, int] = field(default_factory=dict)
    """The index of each image in `targets`, by the path of its label file without the suffix."""

    def place_all(self, files: Sequence[CocoFile]) -> list[dict[int | str, int]]:
        """Return, for each file, the index of each valid image in `targets`, by the image's id."""
        splits = [find_split(file.name) for file in files]
        several = Counter(splits)
        return [
            dict(self._place(file, split, keep_names=several[split] == 1))
            for file, split in zip(files, splits, strict=True)
        ]

    def find_filled_splits(self) -> list[Split]:
        """Return the splits that have images."""
        filled = {target.split for target in self.targets}
        return [split for split in SPLITS if split in filled]

    def count_unnamed(self) -> int:
        """Return how many images in the dataset's folder are not named in any annotation file."""
        named = {target.path for target in self.targets}
        return len(self.tree.images) - len(named)

    def compare_sizes(self) -> int:
        """Compare the images with their sizes in the annotations; return how many have another aspect ratio.

        A difference in scale does not matter, because labels are fractions of the size. Adds a problem for
        each image whose width and height are swapped. Raises OSErrors after which a retry may succeed.
        """
        progress = ProgressLog("Comparing the sizes of images", len(self.targets), "images")
        stretched = 0
        for target in self.targets:
            displayed = _read_displayed_size(target.path)
            if displayed is not None and not _is_same_shape(target.size, displayed):
                if _is_same_shape(target.size, displayed[::-1]):
                    self.problems.add(_TURNED, self.boundary.make_relative(target.path))
                else:
                    stretched += 1
            progress.advance()
        return stretched

    def _place(
        self, file: CocoFile, split: Split | None, *, keep_names: bool
    ) -> Iterator[tuple[int | str, int]]:
        finder = ImageFinder(self.tree, file.name, (image.name for image in file.images.values()))
        for key, image in file.images.items():
            place = f"{file.name}: image {show_value(key, 40)} ({show_value(image.name)})"
            paths = finder.find(image.name)
            if len(paths) != 1:
                self.problems.add(_AMBIGUOUS if paths else _MISSING, place)
                continue
            path = paths[0]
            if (own := split or find_split_of_image(path)) is None:
                self.problems.add(_NO_SPLIT, place)
            else:
                number = self._add(own, image.name if keep_names else path, path, image, place)
                if number is not None:
                    yield key, number

    def _add(self, split: Split, name: str, path: str, image: Image, place: str) -> int | None:
        try:
            real = Path(self.boundary.resolve_file(str(self.tree.folder / path)))
        except (LeadsOutside, OSError) as problem:
            if is_passing(problem):
                raise
            self.problems.add(f"the image is refused: {problem}", place)
            return None
        added = Target(split, name, real, (image.width, image.height))
        number = self._numbers.setdefault(added.asset.rpartition(".")[0], len(self.targets))
        if number == len(self.targets):
            self.targets.append(added)
            return number
        known = self.targets[number]
        if (added.name, added.path) != (known.name, known.path):
            self.problems.add(_SAME_LABELS, place)
            return None
        if added.size != known.size:
            self.problems.add(_SIZES, place)
        return number


def _read_displayed_size(path: Path) -> tuple[int, int] | None:
    """Return the width and height that the image has in training; None if only decoding it would tell.

    Pillow's `getexif` is not used: it decodes a PNG, and heeds the orientation in XMP data, which OpenCV
    ignores.
    """
    from PIL import Image

    try:
        with Image.open(path) as image:
            exif = Image.Exif()
            exif.load(image.info.get("exif", b""))
            orientation = exif.get(ORIENTATION) or getattr(image, "tag_v2", {}).get(ORIENTATION)
            if orientation not in SIDEWAYS:
                return image.size
            return image.size[::-1] if image.format in _DISPLAYED else None
    except Exception as error:  # the check of the images reports those that cannot be read
        if is_passing(error):
            raise
        return None


def _is_same_shape(annotated: tuple[int, int], displayed: tuple[int, int]) -> bool:
    (width, height), (other_width, other_height) = annotated, displayed
    rounding = (width + height) / 2  # half a pixel on each side of the other size
    return abs(width * other_height - height * other_width) <= _STRETCH * height * other_width + rounding

"""Chooses names for the images of a converted .ndjson export: their original names, where possible.

Ultralytics numbers the images instead. With original names, users can compare two versions of a dataset, and
find an image with a problem in the tool that exported it.
"""

from __future__ import annotations

from posixpath import join
from typing import TYPE_CHECKING

from include.datasets.layouts.samples import is_image
from include.datasets.names import is_ignored, split_safely
from include.limits import NAME_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from include.datasets.rules import Split


_ROOM = 20
"""Number of bytes reserved for a line number (see `settle`) and for the suffix of an unfinished download."""


class Names:
    """The split and the name of each image, by its line in the export."""

    def __init__(self) -> None:
        self._splits: dict[int, Split] = {}
        self._names: dict[int, str] = {}

    def add(self, line: int, split: Split, folder: str, file: str) -> None:
        """Add an image; `folder` is its class's folder or "". Raises ValueError for a refused name."""
        self._splits[line] = split
        self._names[line] = join(folder, _choose_name(file))

    def find_lines(self, split: Split) -> list[int]:
        """Return the lines of the images of a split."""
        return [line for line, own in self._splits.items() if own == split]

    def move(self, lines: Iterable[int], split: Split) -> None:
        """Assign images to another split."""
        self._splits.update(dict.fromkeys(lines, split))

    def settle(self) -> None:
        """Add the line number to each name that would share its label file with an earlier image.

        The number is added again as long as an earlier image has the resulting name. That image had its name
        from the start, because no other image gets this line number. So a final name is at most one number
        longer than some original name.
        """
        taken = set[str]()
        for line, split in self._splits.items():
            stem, _, suffix = self._names[line].rpartition(".")
            while f"{split}/{stem}" in taken:
                stem = f"{stem}-{line}"
                self._names[line] = f"{stem}.{suffix}"
            taken.add(f"{split}/{stem}")

    def get(self, line: int) -> str | None:
        """Return the name of an image, beginning with its split; None if the image is skipped."""
        return f"{self._splits[line]}/{self._names[line]}" if line in self._splits else None


def _choose_name(file: str) -> str:
    """Return the file's name, with .jpg added if it has no image suffix; the content is checked later.

    Raises ValueError for a name that is refused.
    """
    try:
        parts = split_safely(file)
    except ValueError as problem:
        raise ValueError(f"its file name is refused: {problem}; use a plain name") from None
    if is_ignored(parts):
        raise ValueError("its file name marks a hidden file or a cache; use a plain name")
    name = "/".join(parts)
    if not is_image(name):
        name += ".jpg"
    if len(name.rpartition("/")[2].encode()) > NAME_BYTES - _ROOM:
        raise ValueError(f"its file name has more than {NAME_BYTES - _ROOM} bytes; shorten it")
    return name


def name_class_folder(name: str) -> str:
    """Return the folder of a class. Raises ValueError if no folder can have its name."""
    try:
        parts = split_safely(name)
    except ValueError as problem:
        raise ValueError(f"a class has a name that no folder can have: {problem}; rename the class") from None
    if len(parts) != 1 or is_ignored(parts):
        raise ValueError("a class has a name that no folder can have; rename it without '/' or leading '.'")
    return parts[0]

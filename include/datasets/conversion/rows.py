"""Collects rows of label files in any order, on disk, until all rows of an image are known."""

from __future__ import annotations

import sqlite3
from array import array
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


class RowDatabase:
    """A temporary database of label rows, by image number."""

    def __init__(self, file: Path) -> None:
        file.unlink(missing_ok=True)  # an attempt that failed may have left it
        self._database = sqlite3.connect(file)
        # Nothing needs to survive the process: the next attempt begins with an empty database.
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute("CREATE TABLE rows (image INTEGER, numbers BLOB)")

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def add(self, image: int, row: Sequence[float] = ()) -> None:
        """Add a row; an empty row only records that the image has a label file."""
        self._database.execute("INSERT INTO rows VALUES (?, ?)", (image, array("d", row).tobytes()))

    def group_by_image(self) -> Iterator[tuple[int, list[tuple[float, ...]]]]:
        """Yield each image that was added, with its distinct rows in the order in which they were added."""
        self._database.commit()
        found = self._database.execute("SELECT image, numbers FROM rows ORDER BY image, rowid")
        for image, rows in groupby(found, key=itemgetter(0)):
            unpacked = (tuple(array("d", numbers)) for _, numbers in rows)
            yield image, list(dict.fromkeys(row for row in unpacked if row))


def in_line(row: Sequence[float]) -> str:
    """Return a row as a line of a label file, in the format of `convert_coco`."""
    return " ".join("%g" % number for number in row) + "\n"  # noqa: UP031 - the format of Ultralytics

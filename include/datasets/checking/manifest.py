"""The manifest of a dataset: one line of JSON for each image, with the hashes of the image and its labels.

    {"split": "train", "name": "a/b.jpg", "image": "<sha256>", "label": "<sha256, or null>", "width": 640,
     "height": 480, "classes": {"0": 3}}

`name` is the image's path within its split. `classes` maps each class id in the label file to its number of
objects. Lines are in the order of the splits and, within a split, in the order in which its images are
listed. The same dataset always gives the same lines.
"""

from __future__ import annotations

import gzip
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_LEVEL = 4
"""Most of a line is hashes, which a higher compression level does not make smaller."""


@contextmanager
def write_manifest(path: Path | None) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that writes a line; without a path, the function does nothing."""
    if path is None:
        yield lambda _: None
        return
    with path.open("wb") as raw, gzip.GzipFile("", "wb", _LEVEL, raw, mtime=0) as file:
        yield lambda line: _write(file, line)


def _write(file: gzip.GzipFile, line: Mapping[str, Any]) -> None:
    file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

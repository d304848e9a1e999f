"""Distinguishes datasets that must be converted from those that Ultralytics can read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from include.datasets.layouts.boundary import Boundary
from include.datasets.layouts.layout import translate_reading_errors
from include.limits import FOLDER_DEPTH

if TYPE_CHECKING:
    from include.datasets.layouts.samples import DatasetLocation
    from include.ultralytics_tasks import Task


ForeignKind = Literal[".ndjson", ".json"]
NDJSON: ForeignKind = ".ndjson"
COCO: ForeignKind = ".json"


@dataclass(frozen=True)
class ForeignDataset:
    """A dataset in a format other than that of Ultralytics."""

    kind: ForeignKind
    """The suffix of the files that describe it: NDJSON or COCO."""
    folder: Path
    """The folder of its files; nothing outside this folder is read."""
    named: str | None = None
    """The file that the user named, relative to the folder; None if a folder was named."""


def find_foreign(location: DatasetLocation, task: Task) -> ForeignDataset | None:
    """Return the dataset if it may have to be converted; None if it has a data YAML or class folders.

    Whether the JSON files in a folder are COCO annotations is only known once they are read. Raises
    DatasetError, and OSError if a retry may succeed.
    """
    suffix = location.path.suffix.lower()
    kind = next((kind for kind in (NDJSON, COCO) if kind == suffix), None)
    if kind is not None and not location.path.is_dir():
        return ForeignDataset(kind, location.folder, str(location.path.relative_to(location.folder)))
    if task == "classify" or not location.path.is_dir():
        return None
    with translate_reading_errors(location.source):
        folder = _find_top(location.path, Boundary(location.folder, location.source, location.barred))
    return ForeignDataset(COCO, folder) if folder is not None else None


def _find_top(folder: Path, boundary: Boundary, depth: int = 0) -> Path | None:
    """Return the folder of the dataset's files; None if it has a data YAML.

    If a folder contains nothing but one other folder, that folder is searched instead.
    """
    boundary.require_walkable(folder)
    visible = [path for path in folder.iterdir() if not path.name.startswith(".") and path.name != "__MACOSX"]
    if any(path.suffix.lower() in {".yaml", ".yml"} for path in visible):
        return None
    if len(visible) == 1 and visible[0].is_dir() and depth < FOLDER_DEPTH:
        return _find_top(visible[0], boundary, depth + 1)
    return folder

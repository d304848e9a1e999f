"""Which images and labels a data set consists of, before any of them is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

from include.datasets.classes import read_class_folders
from include.datasets.errors import DatasetError
from include.datasets.labelled import read_labelled

if TYPE_CHECKING:
    from include.datasets.samples import Layout, Place


def read_layout(place: Place, task: str) -> Layout:
    """Find all images of both splits and where their labels belong; raises DatasetError."""
    try:
        return read_class_folders(place) if task == "classify" else read_labelled(place, task)
    except PermissionError as error:
        raise DatasetError(
            f"Dataset {place.source!r} cannot be read: {error}; allow the worker to read it"
        ) from error

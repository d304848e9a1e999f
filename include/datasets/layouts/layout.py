"""Finds the images and labels of a dataset without opening them."""

from __future__ import annotations

import errno
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.datasets.disk import is_passing
from include.datasets.errors import DatasetError
from include.datasets.layouts.classes import read_class_folders
from include.datasets.layouts.labelled import read_labelled
from include.refusals import show_value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from include.datasets.layouts.samples import DatasetLocation, Layout
    from include.datasets.rules import Split
    from include.ultralytics_tasks import Task


_REMEDIES = {
    errno.EACCES: "allow the worker to read it",
    errno.EPERM: "allow the worker to read it",
    errno.ENAMETOOLONG: "shorten the name",
    errno.ELOOP: "remove the links that form a loop",
}


def read_layout(location: DatasetLocation, task: Task, split: Split = "val") -> Layout:
    """Find all training and validation images, and the paths of their labels.

    `split` is the validation split. Raises DatasetError, and OSError if a retry may succeed.
    """
    with translate_reading_errors(location.source):
        return (
            read_class_folders(location, split)
            if task == "classify"
            else read_labelled(location, task, split)
        )


@contextmanager
def translate_reading_errors(source: str) -> Iterator[None]:
    """Turn an OSError while a dataset's files are listed into a DatasetError with a remedy.

    An OSError after which a retry may succeed is raised unchanged.
    """
    try:
        yield
    except OSError as error:
        if is_passing(error):
            raise
        remedy = _REMEDIES.get(error.errno or 0, "check the files")
        raise DatasetError(
            f"Dataset {source!r} cannot be read: {error.strerror}: {show_value(error.filename)}; {remedy}"
        ) from error

"""Checks a dataset on this machine. Runs in a confined process, see confinement.py."""

from __future__ import annotations

import os
from array import array
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.datasets.checking.known_files import open_known_files
from include.datasets.checking.validate import validate_dataset
from include.datasets.errors import DatasetError
from include.datasets.fingerprint import compute_stat_digest
from include.datasets.layouts.layout import read_layout
from include.datasets.layouts.samples import DatasetLocation
from include.datasets.rules import CheckRules
from include.plain_text import is_one_line
from include.refusals import show_value

if TYPE_CHECKING:
    from include.datasets.layouts.samples import Layout
    from include.datasets.rules import Split
    from include.ultralytics_tasks import Task


PRELOADED = ("numpy", "cv2", "PIL.Image")
"""Modules that the confined process imports before its memory is limited."""


def examine(
    location: dict[str, Any],
    task: Task,
    fingerprint: str | None,
    rules: dict[str, Any],
    manifest: str | None = None,
    known: str | None = None,
) -> dict[str, Any]:
    """Check the dataset at `location`. Raises DatasetError.

    `fingerprint` is the content's fingerprint, if already known. `rules` are CheckRules. `manifest` is the
    path of the manifest to write, and `known` that of the database of files that passed an earlier check
    (known_files.py). In the result, `reference` has the fields of the dataset's reference that depend on its
    files, and `warnings` has the warnings by kind. Also raises OSErrors after which a retry may succeed.
    """
    source = location["source"]
    given = CheckRules.model_validate(rules)
    layout = read_layout(DatasetLocation.from_json(location), task, given.split)
    for name in layout.names.values():
        if not is_one_line(name):
            raise DatasetError(
                f"Dataset {source!r}: the name of class {show_value(name)} contains a control character or "
                "is not UTF-8; rename its folder"
            )
    # The digest is taken before the files are read, because a change during the check must not go unnoticed.
    before = None if fingerprint else compute_stat_digest(layout)
    with open_known_files(Path(known) if known else None) as files:
        found = validate_dataset(layout, source, given, Path(manifest) if manifest else None, files)
    reference = _measure(layout) | {
        "fingerprint": fingerprint or found.fingerprint,
        "classes": layout.names,
        "class_table": [count.model_dump() for count in found.class_table],
        "stat_digest": before,
    }
    return {"reference": reference, "warnings": [kind.model_dump() for kind in found.warnings]}


def measure(location: dict[str, Any], task: Task, split: Split) -> dict[str, int]:
    """Return the fields of the dataset's reference that say how large it is, without reading the files."""
    return _measure(read_layout(DatasetLocation.from_json(location), task, split))


def _measure(layout: Layout) -> dict[str, Any]:
    return {
        "train_images": len(layout.splits["train"]),
        "val_images": len(layout.splits[layout.validation]),
        "size": _measure_files(layout),
    }


def _measure_files(layout: Layout) -> int:
    """Return the total size of all images and labels in bytes, counting each file once."""
    import numpy as np

    numbers, sizes = array("Q"), array("Q")
    for sample in chain.from_iterable(layout.splits.values()):
        for path in filter(None, (sample.image, sample.label)):
            with suppress(FileNotFoundError, NotADirectoryError):  # an image without labels
                found = os.stat(path)  # noqa: PTH116 - faster for a million files
                numbers.append(found.st_ino)
                sizes.append(found.st_size)
    _, first = np.unique(np.frombuffer(numbers, np.uint64), return_index=True)
    return int(np.frombuffer(sizes, np.uint64)[first].sum())

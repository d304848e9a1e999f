"""Ultralytics' caches of labels (`labels/*.cache`), in a format that cannot run code.

Ultralytics pickles its scan of a dataset and unpickles the file at the next start, so anyone who can write to
a dataset could run code on the training machine. This project writes JSON instead. A file is ignored if it
has a different format, if its owner is neither this account nor root, or if everyone may write to it. The
dataset is then scanned again, and the file is replaced.

Ultralytics skips each image that it cannot read, or whose labels it cannot read, and stores the scan without
it. If it cannot even find a label file, the image counts as one without objects. But images and labels are
checked before training, so both mean that the disk or the network share with the data has failed, perhaps
only for a moment. Training on the rest would give a different model, and so would every later training run
that finds the stored scan. Therefore such a scan is refused, not stored.
"""

from __future__ import annotations

import base64
import json
import os
import re
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from include.training.contract import DiskError

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_IGNORED = ": ignoring "
"""In Ultralytics' message about a skipped image, this follows the image's path."""

_COMPLETE = "complete"
"""A key that only stored scans without any skipped image or label have."""


def install_safe_caches() -> None:
    """Make Ultralytics use the functions below for its scans, in this process and its forked children."""
    from ultralytics.data import dataset, utils

    for module in (utils, dataset):
        module.load_dataset_cache_file = load_complete_scan
        module.save_dataset_cache_file = save_complete_scan
    dataset.verify_image_label = verify_image_and_label


def verify_image_and_label(args: Sequence[Any]) -> Sequence[Any]:
    """Scan an image as Ultralytics does, but skip it if its label file exists and cannot be found.

    The label files of a view are links, which are still there if the share with the labels fails.
    """
    from ultralytics.data.utils import verify_image_label

    scanned: Sequence[Any] = verify_image_label(args)
    image, label, prefix, *_ = args
    *_, missing, _, _, _, _ = scanned
    if not missing or not _exists(label):
        return scanned
    return *[None] * 5, 0, 1, 0, 1, f"{prefix}{image}{_IGNORED}it, because {label} cannot be read"


def _exists(path: str) -> bool:
    """Return whether there is something at the path, even a link to a missing file, or a failing disk."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def load_complete_scan(path: Path) -> dict[str, Any]:
    """Return the stored scan of a split; an error means that there is none, or that it may lack something."""
    scan = load_label_cache(path)
    if not scan.get(_COMPLETE):
        raise ValueError(f"{path} is from an earlier release, and may lack images or labels")
    return scan


def save_complete_scan(prefix: str, path: Path, scan: dict[str, Any], version: str) -> None:
    """Store the scan of a split. Raises DiskError if images are skipped."""
    skipped, images = _count_skipped(scan)
    if skipped:
        split = _COLOURS.sub("", prefix).strip(": ")
        message = next((text for text in scan["msgs"] if _IGNORED in text), prefix)
        first = message.removeprefix(prefix).partition(_IGNORED)[0]  # the rest may quote a file
        raise describe_unreadable(
            f"{skipped:,} of {images:,} images of {split}, or their labels, the first of which is {first},"
        )
    scan[_COMPLETE] = True
    save_label_cache(prefix, path, scan, version)


def describe_unreadable(what: str) -> DiskError:
    """Return the error for images that were checked and can no longer be read."""
    return DiskError(
        f"{what} could not be read, although they passed the check. Probably the disk or the network share "
        "with the data has failed: check it, and keep all files as they were checked"
    )


def _count_skipped(scan: Mapping[str, Any]) -> tuple[int, int]:
    """Return how many images Ultralytics skipped when it scanned a split, and the number of all images."""
    if "labels" in scan:
        *_, images = scan["results"]
        return images - len(scan["labels"]), images
    found, skipped, *_ = scan["results"]  # of a split for classify
    return skipped, found + skipped


def load_label_cache(path: Path) -> dict[str, Any]:
    """Return the cache that `save_label_cache` stored.

    For any other file, this raises an error, or the result lacks keys that Ultralytics needs.
    """
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_uid not in {0, os.geteuid()} or found.st_mode & stat.S_IWOTH:
            raise PermissionError(f"{path} may have been written by another account")
        loaded: dict[str, Any] = json.load(file, object_hook=_decode)
    return loaded


def save_label_cache(prefix: str, path: Path, cache: dict[str, Any], version: str) -> None:
    """Store `cache`, with `version` added. A failure is only logged: the next start scans again."""
    from ultralytics.utils import LOGGER

    cache["version"] = version
    try:
        path.unlink(missing_ok=True)
        # Create it exclusively, because a link planted here could point to one of our own files.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
            file.write(json.dumps(cache, default=_encode))  # `dump` takes twice as long
    except (OSError, TypeError, ValueError) as error:
        LOGGER.warning(f"{prefix}The cache {path} was not saved: {error}")


def _encode(value: Any) -> dict[str, Any]:
    """Encode NumPy's arrays and numbers, which JSON cannot represent."""
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
    return {
        "dtype": array.dtype.str,
        "shape": array.shape,
        "bytes": base64.b64encode(array.tobytes()).decode(),
    }


def _decode(stored: dict[str, Any]) -> Any:
    if stored.keys() != {"dtype", "shape", "bytes"}:
        return stored
    array = np.frombuffer(base64.b64decode(stored["bytes"]), np.dtype(stored["dtype"]))
    return array.reshape(stored["shape"]).copy()  # Ultralytics writes into the array

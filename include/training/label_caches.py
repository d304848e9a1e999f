"""Ultralytics' caches of labels (`labels/*.cache`), in a format that cannot run code.

Ultralytics pickles its scan of a dataset and unpickles the file at the next start, so anyone who can write to
a dataset could run code on the training machine. This project writes JSON instead. A file is ignored if it
has a different format, if its owner is neither this account nor root, or if everyone may write to it. The
dataset is then scanned again, and the file is replaced.
"""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np


def install_safe_caches() -> None:
    """Make Ultralytics use the functions below for its caches, in this process and its forked children."""
    from ultralytics.data import dataset, utils

    for module in (utils, dataset):
        module.load_dataset_cache_file = load_label_cache
        module.save_dataset_cache_file = save_label_cache


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

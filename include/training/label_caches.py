"""Ultralytics' caches of labels (`labels/*.cache`), in a form that cannot run anything.

Ultralytics pickles what it found in a dataset and unpickles whatever lies there at the next start, so that
whoever can write to a dataset runs code on the machine that trains. These files are JSON. A file in another
form, or one that somebody else on this machine could have written, is as good as none: the dataset is
scanned anew, and the file replaced.
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
    """Have Ultralytics load and save its caches by the functions below, in this process and its children."""
    from ultralytics.data import dataset, utils

    for module in (utils, dataset):
        module.load_dataset_cache_file = load_label_cache
        module.save_dataset_cache_file = save_label_cache


def load_label_cache(path: Path) -> dict[str, Any]:
    """Return what `save_label_cache` has stored. Raises OSError and ValueError for any other file."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        found = os.fstat(file.fileno())
        if found.st_uid not in {0, os.geteuid()} or found.st_mode & stat.S_IWOTH:
            raise PermissionError(f"{path} could have been written by another account")
        loaded: dict[str, Any] = json.load(file, object_hook=_decoded)
    return loaded


def save_label_cache(prefix: str, path: Path, cache: dict[str, Any], version: str) -> None:
    """Store `cache` with its version, which is added to it. A failure is logged: it costs the next scan."""
    from ultralytics.utils import LOGGER

    cache["version"] = version
    try:
        path.unlink(missing_ok=True)
        # Exclusively, because a link that somebody puts there would lead to a file of ours.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644), "w") as file:
            file.write(json.dumps(cache, default=_encoded))  # `dump` takes twice as long
    except (OSError, TypeError, ValueError) as error:
        LOGGER.warning(f"{prefix}The cache {path} was not saved: {error}")


def _encoded(value: Any) -> dict[str, Any]:
    """Encode what JSON has no word for: arrays and numbers of numpy."""
    array = np.asarray(value)
    if array.dtype.hasobject:
        raise TypeError(f"a {type(value).__name__} has no form in JSON")
    return {
        "dtype": array.dtype.str,
        "shape": array.shape,
        "bytes": base64.b64encode(array.tobytes()).decode(),
    }


def _decoded(stored: dict[str, Any]) -> Any:
    if stored.keys() != {"dtype", "shape", "bytes"}:
        return stored
    array = np.frombuffer(base64.b64decode(stored["bytes"]), np.dtype(stored["dtype"]))
    return array.reshape(stored["shape"]).copy()  # Ultralytics writes into them

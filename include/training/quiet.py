"""Keeps Ultralytics off the network, and sends its log to this process's log."""

from __future__ import annotations

import logging
import math
import os
import re
from functools import cache, partial
from pathlib import Path
from typing import NoReturn

from include.training.environment import isolate_ultralytics
from include.training.library_errors import remove_emoji
from include.training.loading import enforce_safe_loading

_CORRUPT = re.compile(r"(ignoring corrupt image(?:/\w+)?): .*", re.DOTALL)
"""Ultralytics' warning about a corrupt image or label. What follows it is removed, because it may quote a
file that replaced a label after the check."""

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class PlainLines(logging.Filter):
    """Turns Ultralytics' messages into plain single lines: no colours, no emoji, no rows of its tables."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite `record`; drop it if nothing is left of it."""
        text = _ANSI.sub("", record.getMessage()).strip("\r\n")
        text = _CORRUPT.sub(r"\1; `check_dataset` says why", text)
        if text.startswith((" ", "Optimizer stripped from")):
            return False  # rows of tables under progress bars, or the name of a temporary file
        lines = remove_emoji(text).splitlines()
        record.msg, record.args = "; ".join(" ".join(line.split()) for line in lines), None
        return bool(record.msg)


@cache
def tame_ultralytics() -> None:
    """Disable Ultralytics' unsafe features; unless stdout is a terminal, send its log to this process's log.

    Files are loaded safely, label caches cannot run code, and nothing is downloaded. Compiled code is not
    loaded from /tmp, where other accounts could plant files under the names that PyTorch expects.

    YOLO_OFFLINE does not stop every download: the mixed-precision check and the search for a font use the
    network first and read that variable only afterwards. Both tolerate a ConnectionError.

    Non-maximum suppression gets no time limit. With Ultralytics' limit, a validation on a busy machine could
    skip the rest of a batch, so the fitness would depend on the machine's load.
    """
    isolate_ultralytics()
    from ultralytics.utils import LOGGER, USER_CONFIG_DIR, VERBOSE, downloads, nms

    from include.training.label_caches import install_safe_caches
    from include.training.shared_batches import share_batches

    if not VERBOSE:
        LOGGER.handlers.clear()
        LOGGER.addFilter(PlainLines())
        LOGGER.propagate = True
        LOGGER.setLevel(logging.INFO)
    downloads.safe_download = _refuse_download
    downloads.is_url = _is_url
    install_safe_caches()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(USER_CONFIG_DIR / "torchinductor"))
    enforce_safe_loading()
    nms.non_max_suppression = partial(nms.non_max_suppression, max_time_img=math.inf)
    share_batches()


def _refuse_download(url: str | Path, *_: object, **__: object) -> NoReturn:
    raise ConnectionError(f"{url} is not on this machine, and training downloads nothing")


def _is_url(url: str | Path, check: bool = False) -> bool:
    """Return whether `url` looks like a URL; with `check`, return False, because nothing can be fetched."""
    return not check and "://" in str(url)

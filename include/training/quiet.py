"""Ultralytics as a guest: what it logs goes where everything else goes, and it stays off the network."""

from __future__ import annotations

import logging
import math
import os
import re
import unicodedata
from functools import cache, partial
from pathlib import Path
from typing import NoReturn

from include.training.environment import isolate_ultralytics
from include.training.loading import close_other_doors

_CORRUPT = re.compile(r"(ignoring corrupt image(?:/\w+)?): .*", re.DOTALL)
"""What follows may quote a file that was put in the place of a label after the check."""

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")


class PlainLines(logging.Filter):
    """Turns Ultralytics' messages into plain single lines: no colours, no emoji, no rows of its tables."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Rewrite `record`; drop it where nothing is left to say."""
        text = _ANSI.sub("", record.getMessage()).strip("\r\n")
        text = _CORRUPT.sub(r"\1; `check_dataset` says why", text)
        if text.startswith((" ", "Optimizer stripped from")):
            return False  # a row of a table whose heading was a progress bar; a name for a moment, each epoch
        kept = "".join(
            c for c in text if unicodedata.category(c) != "So" and c != "\N{VARIATION SELECTOR-16}"
        )
        record.msg, record.args = "; ".join(" ".join(line.split()) for line in kept.splitlines()), None
        return bool(record.msg)


@cache
def tame_ultralytics() -> None:
    """Send Ultralytics' log where the process' own goes, unless a person watches, and close what is unsafe.

    Files are loaded safely, label caches cannot run code, nothing is downloaded, and compiled code is not
    looked for in /tmp, where other accounts could leave some under the name that PyTorch expects.

    YOLO_OFFLINE does not stop every download: the check of mixed precision and the search for a font ask the
    network first and read that variable only afterwards. Both take a ConnectionError for an answer.

    Its clock is stopped, too: where finding boxes takes long, a validation would leave out the rest of a
    batch, and the fitness would depend on what else the machine does.
    """
    isolate_ultralytics()
    from ultralytics.utils import LOGGER, USER_CONFIG_DIR, VERBOSE, downloads, nms

    from include.training.label_caches import install_safe_caches

    if not VERBOSE:
        LOGGER.handlers.clear()
        LOGGER.addFilter(PlainLines())
        LOGGER.propagate = True
        LOGGER.setLevel(logging.INFO)
    downloads.safe_download = _refuse_download
    downloads.is_url = _is_url
    install_safe_caches()
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(USER_CONFIG_DIR / "torchinductor"))
    close_other_doors()
    nms.non_max_suppression = partial(nms.non_max_suppression, max_time_img=math.inf)


def _refuse_download(url: str | Path, *_: object, **__: object) -> NoReturn:
    raise ConnectionError(f"{url} is not on this machine, and training downloads nothing")


def _is_url(url: str | Path, check: bool = False) -> bool:
    """Say whether `url` looks like one; with `check`, whether it can be fetched: never."""
    return not check and "://" in str(url)

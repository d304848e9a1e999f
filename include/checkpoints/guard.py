"""Refuses side effects while a file is loaded: the last line of defence, after the inspection.

Python raises audit events before operations with side effects (PEP 578). While a file is loaded, its thread
cannot open connections, start processes, change files, or use foreign libraries (ctypes).
"""

from __future__ import annotations

import gc
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

_REFUSED = {
    "os.chmod", "os.chown", "os.exec", "os.fork", "os.forkpty", "os.kill", "os.killpg", "os.link", "os.mkdir",
    "os.posix_spawn", "os.putenv", "os.remove", "os.removexattr", "os.rename", "os.rmdir", "os.setxattr",
    "os.spawn", "os.symlink", "os.system", "os.truncate", "os.unsetenv", "os.utime", "pty.spawn",
    "urllib.Request", "webbrowser.open",
}  # fmt: skip
_REFUSED_FAMILIES = (
    "ctypes.", "ftplib.", "http.client.", "shutil.", "smtplib.", "socket.", "subprocess.", "tempfile.",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_guarded = threading.local()


class SideEffect(PermissionError):
    """Loading the file attempted something other than reading it."""


@contextmanager
def reading_only() -> Iterator[None]:
    """Let this thread do nothing but read.

    Raises SideEffect if the block attempted anything else, even if the block caught the error.
    """
    _install()
    refused: list[str] = []
    _guarded.refused = refused
    cause = None
    # Garbage collection is disabled meanwhile, because finalizers of unrelated objects may delete files.
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    except Exception as error:
        if not refused:
            raise
        cause = error
    finally:
        _guarded.refused = None
        if collecting:
            gc.enable()
    if refused:
        raise SideEffect(
            f"has side effects when it is loaded ({refused[0]}); it may be harmful, so do not load it"
        ) from cause


@cache
def _install() -> None:
    """Install the audit hook, once: it cannot be removed, and does nothing while no file is loaded."""
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    refused = getattr(_guarded, "refused", None)
    if refused is None:
        return
    if (
        event in _REFUSED
        or event.startswith(_REFUSED_FAMILIES)
        or (event == "open" and _opens_for_writing(*arguments))
    ):
        refused.append(event)
        raise SideEffect(f"{event} is refused while a checkpoint is loaded")


def _opens_for_writing(_path: object, mode: str | None, flags: int) -> bool:
    return bool(flags & _WRITING) or any(letter in "wax+" for letter in mode or "")

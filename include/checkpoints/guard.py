"""Nothing but reading happens while a file is loaded: the last line of defence, below all that was inspected.

Python announces what a program does to the world (PEP 578). While a load is under way, its thread is refused
connections, processes, changes to files, and foreign libraries.
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
    "ctypes.",
    "ftplib.",
    "http.client.",
    "shutil.",
    "smtplib.",
    "socket.",
    "subprocess.",
    "tempfile.",
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_guarded = threading.local()


class SideEffect(PermissionError):
    """What was loaded tried to do something else than to be read."""


@contextmanager
def reading_only() -> Iterator[None]:
    """Refuse this thread everything but reading. Raises SideEffect, also where it was caught inside."""
    _install()
    refused: list[str] = []
    _guarded.refused = refused
    cause = None
    # What is collected meanwhile is not of the file, and may remove files of its own.
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
        raise SideEffect(f"does more than to be read ({refused[0]}), so do not load it") from cause


@cache
def _install() -> None:
    """Install the one hook, which does nothing most of the time.

    A hook stays for the life of the process.
    """
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    refused = getattr(_guarded, "refused", None)
    if refused is None:
        return
    if event in _REFUSED or event.startswith(_REFUSED_FAMILIES) or (event == "open" and _writes(*arguments)):
        refused.append(event)
        raise SideEffect(f"{event} is refused while a checkpoint is loaded")


def _writes(_path: object, mode: str | None, flags: int) -> bool:
    return bool(flags & _WRITING) or any(letter in "wax+" for letter in mode or "")

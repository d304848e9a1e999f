"""Watches Python while it handles an untrusted file: programs, connections, outside files, and memory.

Python reports each act except memory growth to audit hooks (PEP 578) before it happens, from every thread, so
a payload is noticed even if it covers its tracks or the code under test swallows its error.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.soft_limit import soft_limit

GIB = 1024**3

_NEVER = (
    "ctypes.dlopen",
    "ftplib.connect",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pty.spawn",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.sendto",
    "subprocess.Popen",
    "urllib.Request",
    "webbrowser.open",
)
_CHANGES = (
    "os.chmod",
    "os.chown",
    "os.link",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.symlink",
    "os.truncate",
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC
_SYSTEM = ("/dev/null", "/dev/urandom", "/proc/self/", "/proc/meminfo", "/sys/fs/cgroup/", "/etc/mime.types")

_active: Watch | None = None


@cache
def _resolve_all(folders: tuple[str, ...]) -> tuple[str, ...]:
    """Return the real paths of the folders that imports may read, whatever the input."""
    return tuple(str(Path(folder).resolve()) for folder in folders if folder)


class Watch:
    """Records the acts outside `folder` that happen while this watch is active."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder.resolve())
        self._readable = (*_resolve_all((*sys.path, sys.prefix, sys.base_prefix)), *_SYSTEM)
        self.acts: list[str] = []

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Record the event, unless valid input may also cause it."""
        if event in _NEVER:
            self.acts.append(f"{event} {arguments!r:.200}")
        elif event == "open":
            self._see_open(*arguments)
        elif event in _CHANGES:
            self.acts += [
                f"{event} {path!r}"
                for path in arguments[:2]
                if isinstance(path, str | bytes | os.PathLike) and not self._inside(path)
            ]

    def _see_open(self, path: Any, mode: str | None, flags: int) -> None:
        if isinstance(path, int) or self._inside(path):
            return
        writes = bool(flags & _WRITES) or bool(set(mode or "r") & set("wax+"))
        known = os.path.realpath(os.fsdecode(path)).startswith(self._readable)
        if writes or not known:
            self.acts.append(f"open {path!r} {mode} {flags:o}")

    def _inside(self, path: str | bytes | os.PathLike[Any]) -> bool:
        real = os.path.realpath(os.fsdecode(path))
        return real == self._folder or real.startswith(f"{self._folder}{os.sep}")


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if _active is not None:
        _active.see(event, arguments)


@contextmanager
def watch_acts(folder: Path) -> Iterator[Watch]:
    """Watch all acts of this process except those in `folder`."""
    global _active  # noqa: PLW0603 - a hook can neither be removed nor take arguments
    if not hasattr(watch_acts, "hooked"):
        sys.addaudithook(_hook)
        watch_acts.hooked = True  # type: ignore[attr-defined]
    _active = Watch(folder)
    try:
        yield _active
    finally:
        _active = None


def bounded_memory(growth: int = GIB) -> AbstractContextManager[None]:
    """Let this process map at most `growth` more bytes; beyond that, MemoryError is raised."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return soft_limit(resource.RLIMIT_AS, pages * resource.getpagesize() + growth)

"""The stacks of a training process and its loader workers, which they write when the watchdog asks for them.

On STACKS_SIGNAL, the main thread writes the stacks of all threads, which do not change while it holds the
interpreter lock. A main thread that waits in a driver or a library cannot run Python code; on
MAIN_STACK_SIGNAL, it writes its own stack nevertheless. Send that signal second: faulthandler, which handles
it, can crash a process whose stacks are changing (https://github.com/python/cpython/issues/116008), and in
CPython 3.11 and 3.12 even a process whose main thread is just entering a function.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import traceback
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path
    from types import FrameType

STACKS_SIGNAL = signal.SIGUSR1
"""Asks for the stacks of all threads."""

MAIN_STACK_SIGNAL = signal.SIGUSR2
"""Asks for the main thread's stack, even if it cannot run Python code."""


def locate_stacks_file(folder: Path, pid: int) -> Path:
    """Return the file that a process writes its stacks to."""
    return folder / f"{pid}.stacks"


class _Stacks:
    """Where this process writes its stacks."""

    folder: Path | None = None
    """Folder of the stack files; None while this process writes no stacks."""
    file: FileIO | None = None
    """This process's stack file; None if it could not be opened."""
    previous: Any
    """The handler of STACKS_SIGNAL to restore."""
    is_inherited = False
    """Whether each child that this process forks registers a separate stack file."""


def enable_stack_dumps(folder: Path) -> None:
    """Make this process and children that it forks later write their stacks to `folder` on both signals.

    Call it in the main thread.
    """
    if not _Stacks.is_inherited:
        os.register_at_fork(after_in_child=_register)
        _Stacks.is_inherited = True
    if _Stacks.folder is None:  # a second call would take our own handler for the previous one
        _Stacks.previous = signal.signal(STACKS_SIGNAL, _write_all)
    _Stacks.folder = folder
    _register()


def disable_stack_dumps() -> None:
    """Restore the previous handlers of both signals."""
    _Stacks.folder = None
    faulthandler.unregister(MAIN_STACK_SIGNAL)
    signal.signal(STACKS_SIGNAL, _Stacks.previous)


def _register() -> None:
    """Open the stack file. Each loader worker, which is forked, gets a separate one."""
    if _Stacks.folder is not None:
        with suppress(OSError):  # a full disk must not prevent training
            _Stacks.file = locate_stacks_file(_Stacks.folder, os.getpid()).open("wb", buffering=0)
            faulthandler.register(MAIN_STACK_SIGNAL, file=_Stacks.file, all_threads=False)


def _write_all(_: int, interrupted: FrameType | None) -> None:
    frames, file = sys._current_frames(), _Stacks.file
    if file is None:
        return
    with suppress(OSError, ValueError):  # a full disk, or a file that has been closed
        if interrupted is not None:
            file.write(_format_stack("Stack", interrupted).encode())
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.ident in frames:
                file.write(_format_stack(f"\nThread {thread.name}", frames[thread.ident]).encode())


def _format_stack(title: str, innermost: FrameType) -> str:
    """Format a thread's stack as faulthandler does."""
    lines = [f"{title} (most recent call first):\n"]
    for frame, line in traceback.walk_stack(innermost):
        lines.append(f'  File "{frame.f_code.co_filename}", line {line} in {frame.f_code.co_name}\n')
    return "".join(lines)

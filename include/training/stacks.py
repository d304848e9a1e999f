"""The stacks of a training process and its loader workers, which they write when the watchdog asks for them.

On STACKS_SIGNAL, the main thread first writes its own stack, even if it cannot run Python code. If it can, it
then writes the other threads' stacks, which do not change while it holds the interpreter lock. faulthandler
could write the stacks of all threads itself, but it crashes a process whose threads are running
(https://github.com/python/cpython/issues/116008).
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


def locate_stacks_file(folder: Path, pid: int) -> Path:
    """Return the file that a process writes its stacks to."""
    return folder / f"{pid}.stacks"


class _Stacks:
    """Where this process writes its stacks."""

    folder: Path | None = None
    """Folder of the stack files; None while this process writes no stacks."""
    file: FileIO
    """This process's stack file, once it could be opened."""
    previous: Any
    """The handler of STACKS_SIGNAL to restore."""
    is_inherited = False
    """Whether each child that this process forks registers a separate stack file."""


def enable_stack_dumps(folder: Path) -> None:
    """Make this process and children that it forks later write their stacks to `folder` on STACKS_SIGNAL.

    Call it in the main thread.
    """
    if not _Stacks.is_inherited:
        os.register_at_fork(after_in_child=_register)
        _Stacks.is_inherited = True
    if _Stacks.folder is None:  # a second call would replace faulthandler's own handler
        _Stacks.previous = signal.signal(STACKS_SIGNAL, _write_other_threads)
    _Stacks.folder = folder
    _register()


def disable_stack_dumps() -> None:
    """Restore the previous handler of STACKS_SIGNAL."""
    _Stacks.folder = None
    faulthandler.unregister(STACKS_SIGNAL)
    signal.signal(STACKS_SIGNAL, _Stacks.previous)


def _register() -> None:
    """Register faulthandler. Each loader worker, which is forked, gets a separate stack file."""
    if _Stacks.folder is not None:
        with suppress(OSError):  # a full disk must not prevent training
            _Stacks.file = locate_stacks_file(_Stacks.folder, os.getpid()).open("wb", buffering=0)
            faulthandler.register(STACKS_SIGNAL, file=_Stacks.file, all_threads=False, chain=True)


def _write_other_threads(*_: object) -> None:
    frames = sys._current_frames()
    with suppress(OSError, ValueError):  # a full disk, or a file that has been closed
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.ident in frames:
                _Stacks.file.write(_format_stack(thread.name, frames[thread.ident]).encode())


def _format_stack(name: str, innermost: FrameType) -> str:
    """Format a thread's stack as faulthandler does."""
    lines = [f"\nThread {name} (most recent call first):\n"]
    for frame, line in traceback.walk_stack(innermost):
        lines.append(f'  File "{frame.f_code.co_filename}", line {line} in {frame.f_code.co_name}\n')
    return "".join(lines)

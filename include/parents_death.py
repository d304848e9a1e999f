"""Ends or interrupts a process when the process that started it dies."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: sets the signal that a process gets when its parent dies."""


def signal_at_parents_death(number: int) -> None:
    """Let the kernel send this process the signal when its parent dies; 0 turns that off.

    Only Linux does so. Forks of this process do not inherit it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def die_with(parent: int) -> None:
    """Let this process be killed when its parent dies; end it now if `parent` is not its parent any more."""
    signal_at_parents_death(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)

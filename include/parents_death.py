"""Ends or interrupts a process when the process that started it dies."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: sets the signal that a process gets when its parent dies."""


def signal_at_parents_death(number: int) -> None:
    """Let the kernel send signal `number` to this process when its parent dies; 0 turns this off.

    Child processes do not inherit the setting.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def die_with(parent: int) -> None:
    """Let the kernel kill this process when its parent dies; exit now if `parent` is no longer its parent."""
    signal_at_parents_death(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)

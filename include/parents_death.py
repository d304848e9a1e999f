"""Ends or interrupts a process when the process that started it dies."""

from __future__ import annotations

import ctypes
import sys

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: sets the signal that a process gets when its parent dies."""


def signal_at_parents_death(number: int) -> None:
    """Let the kernel send this process the signal when its parent dies; 0 for none. Only Linux can.

    A fork does not inherit it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)

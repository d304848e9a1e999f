"""Child processes: they can import this project, and end when the process that started them dies."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: sets the signal that a process gets when its parent dies."""


def add_project_to_path(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with this project first on PYTHONPATH, whatever the working directory is."""
    path = os.pathsep.join(filter(None, [str(_ROOT), environment.get("PYTHONPATH")]))
    return {**environment, "PYTHONPATH": path}


def signal_at_parents_death(number: int) -> None:
    """Let the kernel send signal `number` to this process when its parent dies; 0 turns this off.

    Child processes do not inherit the setting.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def die_with(parent: int) -> None:
    """Let the kernel kill this process when `parent` dies. If `parent` has died already, exit now."""
    signal_at_parents_death(signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)

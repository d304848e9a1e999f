"""Lets child processes import this project, regardless of their working directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def add_project_to_path(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with this project first on PYTHONPATH."""
    path = os.pathsep.join(filter(None, [str(_ROOT), environment.get("PYTHONPATH")]))
    return {**environment, "PYTHONPATH": path}

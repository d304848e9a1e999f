"""The tasks of Ultralytics."""

from __future__ import annotations

from typing import Literal, get_args

Task = Literal["detect", "segment", "semantic", "depth", "classify", "pose", "obb"]
TASKS: tuple[Task, ...] = get_args(Task)
"""In Ultralytics' order; a test compares them with the installed version."""

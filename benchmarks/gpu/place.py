"""Where a step runs: its device, its folder, and the time that it has left."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from include.training.architectures import find_default_architecture, is_architecture
from include.training.contract import MODEL_SUFFIX

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task


@dataclass(frozen=True)
class Place:
    """The environment of a step."""

    device: str
    """The `device` argument of a training run: `cpu`, or the number of a GPU."""
    folder: Path
    """Folder for files, shared by the steps of one run."""
    quick: bool
    """Whether to use tiny settings, to check that the step works."""
    ends: float
    """When the step will be stopped, as a value of `time.monotonic`."""
    stack: Path | None = None
    """Folder of a running local stack to use; None to start one."""

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device != "cpu"

    @property
    def seconds_left(self) -> float:
        """Seconds until the step is stopped."""
        return self.ends - time.monotonic()

    def own(self, name: str) -> Path:
        """Create a folder of that name."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        return folder

    def architecture(self, task: Task, model: str = "yolo11n") -> str:
        """Return the model to train: the given one, or with `--quick` one whose epochs take 0.1 s.

        If the family of `model` has no model for the task, return the task's default.
        """
        if not self.quick:
            name = f"{model}{MODEL_SUFFIX[task]}"
            return name if is_architecture(name) else find_default_architecture(task)
        from tests.support.tiny_models import architecture

        return architecture(self.folder, task)


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0))

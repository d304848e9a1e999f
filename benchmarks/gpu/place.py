"""Where a step measures: a device, a folder, and the time that is left."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from include.training.contract import MODEL_SUFFIX


@dataclass(frozen=True)
class Place:
    """What every step is given."""

    device: str
    """As `device` of a training: `cpu`, or the number of a GPU."""
    folder: Path
    """For files; the steps of one run share it."""
    quick: bool
    """Measure tiny things, to see that it works."""
    ends: float
    """When the step is stopped, on the clock of `time.monotonic`."""

    @property
    def on_gpu(self) -> bool:
        """Whether the device is a GPU."""
        return self.device != "cpu"

    @property
    def seconds_left(self) -> float:
        """Until the step is stopped."""
        return self.ends - time.monotonic()

    def own(self, name: str) -> Path:
        """Make a folder of that name."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        return folder

    def architecture(self, task: str, model: str = "yolo11n") -> str:
        """Name the model to train: a real one, or one that needs a tenth of a second for an epoch."""
        if not self.quick:
            return f"{model}{MODEL_SUFFIX[task]}"
        from tests.tiny_models import architecture

        return architecture(self.folder, task)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))

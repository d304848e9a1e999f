"""The environment variables that Ultralytics reads once, when it is first imported."""

from __future__ import annotations

import os
import sys


def isolate_ultralytics() -> None:
    """Keep Ultralytics from using the network and running foreign code, in this process and its children.

    Call this before Ultralytics is first imported. Ultralytics then sends no telemetry, looks for no updates,
    installs no packages, loads checkpoints without running pickled code, and draws progress bars only on a
    terminal.
    """
    os.environ |= {
        "YOLO_OFFLINE": "true",
        "YOLO_AUTOINSTALL": "false",
        "ULTRALYTICS_SAFE_LOAD": "true",
        "YOLO_VERBOSE": str(sys.stdout is not None and sys.stdout.isatty()),
    }

"""The trainer: torch and Ultralytics, without Airflow and without S3. `python -m include.training --help`.

Ultralytics reads its environment once, when it is first imported. Whoever imports it through this package
gets it offline (no telemetry, no version checks), unable to install packages, loading checkpoints without
running what is pickled in them, and without progress bars where nobody watches.
"""

from __future__ import annotations

import os
import sys

os.environ |= {
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "ULTRALYTICS_SAFE_LOAD": "true",
    "YOLO_VERBOSE": str(sys.stdout is not None and sys.stdout.isatty()),
}

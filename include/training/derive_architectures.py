"""Derive architectures.json from Ultralytics: `python -m include.training.derive_architectures`.

Architectures are the model YAMLs that Ultralytics ships; pretrained weights are the files that it publishes.
Run this again when the pinned version changes; a test compares the file with the installed version.
"""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

from include.training.architectures import TABLE
from include.training.contract import MODEL_SUFFIX
from include.training.environment import isolate_ultralytics

_OTHER_TRAINERS = re.compile(r"-world|yoloe|rtdetr")
"""Names of models that need trainers which we do not use (YOLOWorld, YOLOE, RTDETR)."""

_OF_YOLO = re.compile(r"yolo(v\d|\d)")
"""Names of YOLO models. Other published files are segmenters such as SAM, YOLO-NAS, and text encoders."""


def derive() -> dict[str, Any]:
    """Return the installed version's tables, in the form of architectures.json."""
    isolate_ultralytics()
    from ultralytics import __version__, cfg
    from ultralytics.utils import downloads

    models = Path(cfg.DEFAULT_CFG_PATH).parent / "models"
    release = inspect.signature(downloads.attempt_download_asset).parameters["release"].default
    weights = sorted(name for name in downloads.GITHUB_ASSETS_NAMES if name.endswith(".pt"))
    return {
        "ultralytics": __version__,
        "release": f"https://github.com/{downloads.GITHUB_ASSETS_REPO}/releases/download/{release}",
        "defaults": cfg.TASK2MODEL,
        "metrics": cfg.TASK2METRIC,
        "architectures": {path.stem: _architecture(path) for path in sorted(models.glob("*/*.yaml"))},
        "pretrained": {name: _task_of_weights(name) for name in weights},
    }


def _architecture(path: Path) -> dict[str, str | None]:
    """Return the task of an architecture (None if we do not train it) and the letters of its sizes."""
    import yaml
    from ultralytics.nn.tasks import guess_model_task

    description = yaml.safe_load(path.read_text(encoding="utf-8"))
    task = None if _OTHER_TRAINERS.search(path.stem) else guess_model_task(description)
    return {"task": task, "sizes": "".join(description.get("scales", ()))}


def _task_of_weights(name: str) -> str | None:
    if not _OF_YOLO.match(name) or _OTHER_TRAINERS.search(name):
        return None
    return next((task for task, suffix in MODEL_SUFFIX.items() if suffix and suffix in name), "detect")


if __name__ == "__main__":
    TABLE.write_text(json.dumps(derive(), indent=1) + "\n", encoding="utf-8")

"""The classes of objects that a checkpoint may hold, from the pinned PyTorch and Ultralytics."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("classes.json")

ALIASES = {
    "ultralytics.nn.modules.block.Silence": "torch.nn.modules.linear.Identity",
    "ultralytics.nn.tasks.YOLOv10DetectionModel": "ultralytics.nn.tasks.DetectionModel",
    "ultralytics.utils.loss.v10DetectLoss": "ultralytics.utils.loss.E2EDetectLoss",
}
"""Maps class names that only older files contain to the current ones; Ultralytics still loads such files."""

MODELS = {
    "detect": "ultralytics.nn.tasks.DetectionModel",
    "segment": "ultralytics.nn.tasks.SegmentationModel",
    "semantic": "ultralytics.nn.tasks.SemanticSegmentationModel",
    "depth": "ultralytics.nn.tasks.DepthModel",
    "classify": "ultralytics.nn.tasks.ClassificationModel",
    "pose": "ultralytics.nn.tasks.PoseModel",
    "obb": "ultralytics.nn.tasks.OBBModel",
}
"""Class of the complete model for each task."""

DISTILLED = "ultralytics.nn.distill_model.DistillationModel"
FEATURE_HOOK = "ultralytics.nn.distill_model.FeatureHook"
"""The only hook that a layer may have: it stores the layer's output for distillation."""


@cache
def _load_table() -> dict[str, frozenset[str]]:
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    classes = {
        kind: frozenset(f"{module}.{name}" for module, names in table[kind].items() for name in names)
        for kind in ("modules", "others")
    }
    return classes | {"methods": frozenset(table["methods"])}


def is_module(path: str) -> bool:
    """Return whether `path` names a part of a network (a torch.nn.Module)."""
    return ALIASES.get(path, path) in _load_table()["modules"]


def is_known(path: str) -> bool:
    """Return whether `path` names a class whose objects a checkpoint may hold."""
    return is_module(path) or ALIASES.get(path, path) in _load_table()["others"]


def list_methods() -> frozenset[str]:
    """Return the names of a layer's methods; no attribute in a file may have one of these names."""
    return _load_table()["methods"]


@cache
def list_layers() -> frozenset[str]:
    """Return the layers that an architecture may use, by the names in its rows (Conv, nn.Upsample)."""
    return frozenset(
        f"nn.{name}" if module.startswith("torch.") else name
        for module, _, name in (path.rpartition(".") for path in _load_table()["modules"])
        if module.startswith(("torch.nn.modules.", "ultralytics.nn.modules."))
    )

"""Measures a model on a split of a dataset: the same numbers for the same files, whoever asks."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.training.contract import TrainingError, require_task
from include.training.environment import isolate_ultralytics
from include.training.quiet import tame_ultralytics
from include.training.sentences import in_one_line, is_out_of_memory

if TYPE_CHECKING:
    from include.training.contract import Task
    from include.training.validators import ByName

JUDGED_WITH = (
    "agnostic_nms",
    "classes",
    "conf",
    "iou",
    "mask_ratio",
    "max_det",
    "nms",
    "overlap_mask",
    "single_cls",
)
"""Training arguments that also decide how a model is measured: both sides of a comparison get the same."""

_IMGSZ, _BATCH = 640, 16

_WRONG_INPUT = (ValueError, TypeError, LookupError, SyntaxError, FileNotFoundError, AssertionError)
"""What Ultralytics raises for data that do not fit; what else it raises another machine may not."""


@dataclass(frozen=True)
class Evaluation:
    """What a model reaches on one split of one dataset.

    metrics have Ultralytics' names as they are in results.csv, and `fitness`; a number that is not finite is
    None. classes holds AP50-95 of each class that has a label in the split, by name: of masks for segment, of
    keypoints for pose; for classify it is the accuracy (top 1).
    """

    metrics: Mapping[str, float | None]
    classes: Mapping[str, float]


def evaluate(
    weights: Path,
    data: Path,
    task: Task,
    split: str = "val",
    *,
    imgsz: int | None = None,
    batch: int | None = None,
    device: str | None = None,
    arguments: Mapping[str, object] | None = None,
) -> Evaluation:
    """Measure the model in the file `weights` on a split of `data`.

    data is what Ultralytics takes: a YAML, or a folder for classify. imgsz is in pixels (None: 640), batch
    counts images (None: 16), device is as in TrainingRequest, but one. Of arguments only JUDGED_WITH count.
    Classes are told apart by name, so a model that lacks one fails on it. Nothing is written but label
    caches beside `data`.

    Raises TrainingError for weights of another task, for data that cannot be read, and where memory runs
    out; UnreadableCheckpoint for a file that holds anything else than a model.
    """
    isolate_ultralytics()
    from include.training.devices import choose_device
    from include.training.validators import VALIDATORS

    _require_model_for(task, weights)
    tame_ultralytics()
    with tempfile.TemporaryDirectory(prefix="evaluation-") as folder:
        judged = {name: value for name, value in (arguments or {}).items() if name in JUDGED_WITH}
        settings: dict[str, Any] = {
            "task": task,
            "mode": "val",
            "data": str(data.resolve()),
            "split": split,
            "imgsz": imgsz or _IMGSZ,
            "batch": batch or _BATCH,
            "device": choose_device(device),
            "rect": True,  # as Ultralytics validates while it trains
            "plots": False,
            "verbose": False,
            **judged,
        }
        validator = VALIDATORS[task](settings, Path(folder))
        try:
            return _measured(validator, weights, settings)
        finally:
            validator.close()


def _require_model_for(task: Task, weights: Path) -> None:
    """Look into the file before Ultralytics loads it, which would run whatever somebody pickled into it."""
    from include.training.loading import inspect_checkpoint

    require_task(task)
    built_for = inspect_checkpoint(weights).task
    if built_for != task:
        raise TrainingError(f"{weights} is a model for {built_for}, so it cannot be measured at task={task}")


def _measured(validator: ByName, weights: Path, settings: Mapping[str, Any]) -> Evaluation:
    try:
        _require_description(settings)
        metrics = validator(model=weights)
    except Exception as error:
        if is_out_of_memory(error):
            raise TrainingError(
                f"{settings['device']} ran out of memory while {weights.name} was measured with "
                f"batch={settings['batch']} and imgsz={settings['imgsz']}; give a smaller batch"
            ) from error
        if isinstance(error, _WRONG_INPUT):
            raise TrainingError(
                f"{weights.name} cannot be measured on {settings['data']}: {in_one_line(error)}"
            ) from error
        raise
    return Evaluation(
        metrics={name: float(value) if math.isfinite(value) else None for name, value in metrics.items()},
        classes=validator.per_class(),
    )


def _require_description(settings: Mapping[str, Any]) -> None:
    """Ultralytics runs the YAML's `download` (also a script) for images that are missing: never here."""
    from ultralytics.data.utils import check_det_dataset

    if settings["task"] != "classify":
        check_det_dataset(settings["data"], autodownload=False, split=settings["split"])

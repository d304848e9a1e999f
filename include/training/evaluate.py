"""Evaluates a model on a split of a dataset; on one machine, the same files always give the same numbers."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from include.training.contract import TrainingError, normalize_metrics
from include.training.library_errors import (
    WRONG_INPUT,
    find_machine_fault,
    format_error,
    is_out_of_host_memory,
    is_out_of_memory,
    recognize_killed_workers,
)
from include.training.quiet import tame_ultralytics

if TYPE_CHECKING:
    from include.datasets.rules import Split
    from include.training.validators import ClassNameMixin
    from include.ultralytics_tasks import Task


EVALUATION_ARGUMENTS = (
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
"""Training arguments that also affect an evaluation. Models to be compared must get the same values."""

_IMGSZ, _BATCH = 640, 16


@dataclass(frozen=True)
class Evaluation:
    """The metrics of a model on one split of one dataset."""

    metrics: Mapping[str, float | None]
    """Metrics by Ultralytics' names, as in results.csv, and `fitness`; a number that is not finite becomes
    None."""
    classes: Mapping[str, float]
    """One number for each class that has labels in the split, by class name: AP50-95 (of masks for segment,
    of keypoints for pose), top-1 accuracy for classify, or intersection over union for semantic. Empty for
    depth."""


def evaluate(
    weights: Path,
    data: Path,
    task: Task,
    split: Split = "val",
    *,
    imgsz: int | None = None,
    batch: int | None = None,
    device: str | None = None,
    arguments: Mapping[str, object] | None = None,
) -> Evaluation:
    """Evaluate the model in the file `weights` on a split of `data`.

    `data` is Ultralytics' `data`: a YAML, or a folder for classify. `imgsz` is in pixels (None: 640), `batch`
    in images (None: 16); `device` names one device, written as in TrainingRequest. Of `arguments`, only those
    named in EVALUATION_ARGUMENTS are used. Classes are matched by name, or by number if no names match; a
    model that lacks a class misses all labels of that class. The only files that this writes are label
    caches, next to the data.

    Raises TrainingError for weights of another task, for unreadable data, and if memory runs out;
    UnreadableCheckpoint for a file that is not a model, GpuLost for a GPU that fails or that torch cannot
    use, DiskError if shared memory is full, and ProcessKilled if a loader worker was killed.
    """
    tame_ultralytics()
    from include.training.devices import choose_device
    from include.training.validators import VALIDATORS

    _require_model_for(task, weights)
    with tempfile.TemporaryDirectory(prefix="evaluation-") as folder:
        judged = {name: value for name, value in (arguments or {}).items() if name in EVALUATION_ARGUMENTS}
        settings: dict[str, Any] = {
            "task": task,
            "mode": "val",
            "data": str(data.resolve()),
            "split": split,
            "imgsz": imgsz or _IMGSZ,
            "batch": batch or _BATCH,
            "device": choose_device(device),
            "rect": True,  # as in Ultralytics' validation during training
            "plots": False,
            "verbose": False,
            **judged,
        }
        validator = VALIDATORS[task](args=settings, save_dir=Path(folder))
        try:
            with recognize_killed_workers():
                return _measure(validator, weights, settings)
        finally:
            validator.close()


def _require_model_for(task: Task, weights: Path) -> None:
    """Refuse a file that is not a model for `task`. Raises TrainingError and UnreadableCheckpoint."""
    from include.training.loading import load_checkpoint, read_task

    built_for = read_task(load_checkpoint(weights))
    if built_for != task:
        raise TrainingError(
            f"{weights} is a model for {built_for}, so it cannot be evaluated for task={task}"
        )


def _measure(validator: ClassNameMixin, weights: Path, settings: Mapping[str, Any]) -> Evaluation:
    from ultralytics.data.utils import check_det_dataset

    try:
        if settings["task"] != "classify":
            # Fails if images are missing; Ultralytics would then run the YAML's `download`, even a script
            check_det_dataset(settings["data"], autodownload=False, split=settings["split"])
        metrics = validator(model=weights)
    except Exception as error:
        if fault := find_machine_fault(error):
            raise fault from error
        if is_out_of_memory(error):
            on_host = settings["device"] != "cpu" and is_out_of_host_memory(error)
            where = "this machine" if on_host else settings["device"]
            raise TrainingError(
                f"{where} ran out of memory while evaluating {weights.name} with "
                f"batch={settings['batch']} and imgsz={settings['imgsz']}; reduce batch"
            ) from error
        if isinstance(error, WRONG_INPUT):
            raise TrainingError(
                f"{weights.name} cannot be evaluated on {settings['data']}: {format_error(error)}"
            ) from error
        raise
    return Evaluation(metrics=normalize_metrics(metrics), classes=validator.measure_classes())

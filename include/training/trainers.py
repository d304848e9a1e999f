"""The trainer of each task: Ultralytics' own, changed so that last.pt keeps the complete training state.

The names of these classes avoid the word Trainer on purpose: if a name contains it, Ultralytics attaches the
integrations (MLflow, Weights & Biases, its own platform, …) that the user's settings may have enabled.
"""

from __future__ import annotations

import logging
from collections import Counter
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.models.yolo.depth import DepthTrainer
from ultralytics.models.yolo.depth.calibrate import (
    _depth_head,
    _plot_calibrated_batches,
    fit_calibration_selective,
)
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.models.yolo.obb import OBBTrainer
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.models.yolo.semantic import SemanticSegmentationTrainer
from ultralytics.utils import RANK

from include.datasets.arrays import is_whole
from include.training.drawing import tolerate_drawing_errors
from include.training.loading import load_checkpoint
from include.training.resumable import ResumableMixin
from include.training.saving import save

if TYPE_CHECKING:
    import torch
    from torch.utils.data import DataLoader
    from ultralytics.data.dataset import ClassificationDataset

    from include.ultralytics_tasks import Task

log = logging.getLogger(__name__)

CALIBRATION = "depth_calibration"
"""Ultralytics' key for how a checkpoint was calibrated."""

_FARTHEST = 100.0
"""Ultralytics' default for the data YAML's max_depth, in metres."""


class DetectTraining(ResumableMixin, DetectionTrainer):
    """Trains models that find boxes."""


class SegmentTraining(ResumableMixin, SegmentationTrainer):
    """Trains models that find boxes and masks."""


class SemanticTraining(ResumableMixin, SemanticSegmentationTrainer):
    """Trains models that predict a class for each pixel."""


class DepthTraining(ResumableMixin, DepthTrainer):
    """Trains models that estimate a distance for each pixel."""

    def final_eval(self) -> None:
        """Strip, validate and calibrate best.pt; do not strip last.pt."""
        super().final_eval()
        if RANK in {-1, 0}:
            pictures = self.save_dir if self.args.plots else None
            calibrate_depth(self.best, self.test_loader, self.device, self.data.get("max_depth"), pictures)


class ClassifyTraining(ResumableMixin, ClassificationTrainer):
    """Trains models that predict a class for each image."""

    def build_dataset(self, *args: Any, **options: Any) -> ClassificationDataset:
        """List the images, and prepare their decoded copies if cache=disk.

        Decoded images that a killed attempt left incomplete are removed: Ultralytics' ClassificationDataset
        would always fail on them, while its other dataset classes detect them. If images differ only in their
        suffixes, such as 1.jpg and 1.png, Ultralytics would use one decoded image for all of them. Here each
        of them gets its own. For other tasks, such images share their labels, so they show the same.
        """
        data = super().build_dataset(*args, **options)
        if data.cache_disk:
            sharing = Counter(decoded for *_, decoded, _ in data.samples)
            for sample in data.samples:
                image, _, decoded, _ = sample
                if sharing[decoded] > 1:
                    sample[2] = decoded = Path(f"{image}.npy")
                if decoded.exists() and not is_whole(decoded):
                    decoded.unlink(missing_ok=True)
        return data


class PoseTraining(ResumableMixin, PoseTrainer):
    """Trains models that find boxes and keypoints."""


class ObbTraining(ResumableMixin, OBBTrainer):
    """Trains models that find oriented boxes."""


TRAINERS: dict[Task, type[ResumableMixin]] = {
    "detect": DetectTraining,
    "segment": SegmentTraining,
    "semantic": SemanticTraining,
    "depth": DepthTraining,
    "classify": ClassifyTraining,
    "pose": PoseTraining,
    "obb": ObbTraining,
}


def calibrate_depth(
    best: Path,
    loader: DataLoader[Any],
    device: torch.device,
    max_depth: float | None,
    pictures: Path | None,
) -> None:
    """Calibrate the distances of the model in the stripped `best` on up to 200 images, if that helps.

    This replaces Ultralytics' `calibrate_checkpoint` (8.4.190). That function loads the file unsafely, writes
    it in place, and also changes last.pt. A training run that continued from a changed last.pt would differ
    from an uninterrupted one. `max_depth` is in metres; `pictures` is a folder for images of the result.

    A file that is already calibrated stays as it is. Such a file comes from an attempt that was killed just
    after the calibration, or from a parent job whose best epoch is still the best.
    """
    state = load_checkpoint(best)
    if state.get(CALIBRATION):
        return
    model = deepcopy(state["model"]).float()
    fitted = fit_calibration_selective(model, loader, device, max_depth=max_depth or _FARTHEST)
    if fitted is None:  # fewer than two images have a known distance
        return
    head = _depth_head(state["model"])
    head.cal_a.fill_(fitted["a"])
    head.cal_b.fill_(fitted["b"])
    scale, offset = float(head.cal_a), float(head.cal_b)  # rounded to the model's precision
    state[CALIBRATION] = {
        "status": "selected",
        "candidate": fitted["name"],
        "images": fitted["images"],
        "a": scale,
        "b": offset,
        "strategy": "two-fold-held-out-delta1",
        "scores": fitted["cv_scores"],
    }
    save(state, best)
    log.info("The distances of %s are calibrated: %s, a=%.4f, b=%.4f.", best, fitted["name"], scale, offset)
    if pictures is not None:
        with tolerate_drawing_errors("The calibrated distances"):
            _plot_calibrated_batches(model, loader, device, scale, offset, fitted["name"], pictures)

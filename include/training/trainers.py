"""The trainer of each task: Ultralytics' own, changed so that last.pt keeps the complete training state.

The names of these classes avoid the word Trainer on purpose: if a name contains it, Ultralytics attaches the
integrations (MLflow, Weights & Biases, its own platform, …) that the user's settings may have enabled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ultralytics.models.yolo.classify import ClassificationTrainer
from ultralytics.models.yolo.depth import DepthTrainer
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.models.yolo.obb import OBBTrainer
from ultralytics.models.yolo.pose import PoseTrainer
from ultralytics.models.yolo.segment import SegmentationTrainer
from ultralytics.models.yolo.semantic import SemanticSegmentationTrainer
from ultralytics.utils import RANK

from include.datasets.arrays import is_whole
from include.training.calibration import calibrate_depth
from include.training.resumable import ResumableMixin

if TYPE_CHECKING:
    from ultralytics.data.dataset import ClassificationDataset

    from include.ultralytics_tasks import Task


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
        """List the images. With cache=disk, remove decoded images that a killed attempt left incomplete.

        Ultralytics' ClassificationDataset would always fail on them; its other dataset classes detect them.
        """
        data = super().build_dataset(*args, **options)
        for *_, decoded, _ in data.samples if data.cache_disk else ():
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

"""Ultralytics' validators, changed so that every model is judged by the same standard.

Ultralytics' own validators assume that the data have the classes of the model. If the model has fewer
classes, they skip labels that the model cannot find. If the same classes are numbered differently, they count
every right answer as wrong. A champion that was trained before a class was added would get an easier test
than its challenger. The validators in this module use all of the data, and match classes by name if the model
and the data have any class name in common.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from ultralytics.engine.validator import BaseValidator
from ultralytics.models.yolo.classify import ClassificationValidator
from ultralytics.models.yolo.depth import DepthValidator
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.models.yolo.obb import OBBValidator
from ultralytics.models.yolo.pose import PoseValidator
from ultralytics.models.yolo.segment import SegmentationValidator
from ultralytics.models.yolo.semantic import SemanticSegmentationValidator
from ultralytics.nn.autobackend import check_class_names
from ultralytics.utils.metrics import ConfusionMatrix, SemanticMetrics

if TYPE_CHECKING:
    from ultralytics.data.dataset import ClassificationDataset, YOLODataset

    from include.ultralytics_tasks import Task

Names = Mapping[int, str]

_ONE_CLASS = {0: "item"}
"""Ultralytics' name for the class into which single_cls merges all classes."""

_NOT_IN_DATA = -1
_OTHER = "not in the data"


class ClassNameMixin(BaseValidator):
    """What the validators of all tasks share; list this mixin before the base class from Ultralytics."""

    @property
    def data_names(self) -> dict[int, str]:
        """The classes of the data, by their numbers."""
        if self.args.single_cls:
            return _ONE_CLASS
        names: dict[int, str] = check_class_names(dict(self.data["names"]))
        return names

    def measure_classes(self) -> dict[str, float]:
        """Return the metric of each class in the data, by name; empty if the task has no classes."""
        return {}

    def name_classes(self, numbers: Mapping[int, float]) -> dict[str, float]:
        """Replace class numbers with names; if classes share a name, each gets its number appended."""
        names = self.data_names
        once = {name for name in names.values() if list(names.values()).count(name) == 1}
        return {
            names[number] if names[number] in once else f"{names[number]} ({number})": value
            for number, value in numbers.items()
        }

    def close(self) -> None:
        """Stop the processes of the loader."""
        if self.dataloader is not None:
            self.dataloader.close()


class _LabelFilesMixin(ClassNameMixin):
    """Validators of images with label files."""

    def build_dataset(self, *args: Any, **options: Any) -> YOLODataset:
        """Read all of the labels, because Ultralytics skips classes that `names` lacks."""
        data = super().build_dataset(*args, **options)
        self.names = self.data_names
        return data


class _BoxesMixin(_LabelFilesMixin):
    """Validators of models that find objects. Predicted classes are renumbered as in the data."""

    part = "box"
    """The metrics by which classes are judged, as an attribute of Ultralytics' `metrics`."""

    def init_metrics(self, model: Any) -> None:
        """Set up metrics by the classes of the data."""
        super().init_metrics(model)
        self.metrics.names = self.data_names
        self._to_data = torch.tensor(_match_classes(model.names, self.data_names), device=self.device)

    def postprocess(self, preds: Any) -> list[dict[str, torch.Tensor]]:
        """Replace the model's class numbers in the predictions with those of the data.

        A class that is not in the data gets a number that matches no label.
        """
        predictions: list[dict[str, torch.Tensor]] = super().postprocess(preds)
        for prediction in predictions:
            prediction["cls"] = self._to_data[prediction["cls"].long()].to(prediction["cls"].dtype)
        return predictions

    def measure_classes(self) -> dict[str, float]:
        """Return the AP50-95 of each class that has a label."""
        metric = getattr(self.metrics, self.part)
        return self.name_classes(
            {int(c): float(ap) for c, ap in zip(metric.ap_class_index, metric.ap, strict=True)}
        )


class DetectValidation(_BoxesMixin, DetectionValidator):
    """Validates models that find boxes."""


class SegmentValidation(_BoxesMixin, SegmentationValidator):
    """Validates models that find boxes and masks; classes are judged by their masks."""

    part = "seg"


class PoseValidation(_BoxesMixin, PoseValidator):
    """Validates models that find boxes and keypoints; classes are judged by their keypoints."""

    part = "pose"


class ObbValidation(_BoxesMixin, OBBValidator):
    """Validates models that find oriented boxes."""


class SemanticValidation(_LabelFilesMixin, SemanticSegmentationValidator):
    """Validates models that predict a class for each pixel."""

    def init_metrics(self, model: Any) -> None:
        """Set up metrics by the data's classes; a pixel predicted as a class that the data lack is wrong.

        If the data have a single class, a pixel either has that class or not. Any other predicted class then
        means that the pixel does not have it. If the data have several classes, all predicted classes that
        the data lack get one shared number, which no pixel of the data has. Ultralytics would omit pixels
        that are predicted as an unknown class, and a model with more such pixels would look better.
        """
        super().init_metrics(model)
        names = self.data_names
        numbers = _match_classes(model.names, names)
        if len(names) == 1:
            other, measured, shown = 0, names, {0: _OTHER, 1: names[0]}
            numbers = [1 if number == 0 else 0 for number in numbers]
        else:
            other = len(names)
            measured = shown = {**names, other: _OTHER}
            numbers = [other if number == _NOT_IN_DATA else number for number in numbers]
        self.metrics = SemanticMetrics(names=measured)
        self.confusion_matrix = ConfusionMatrix(names=shown, task="semantic")
        if len(numbers) == 1:  # such a model predicts its only class or nothing
            numbers = [self.data.get("bg_class_idx") or other, *numbers]
        self._to_data = torch.tensor(numbers, device=self.device, dtype=torch.int32)

    def postprocess(self, preds: Any) -> torch.Tensor:
        """Renumber predicted classes as in the data."""
        found: torch.Tensor = super().postprocess(preds)
        return self._to_data[found.long()]

    def measure_classes(self) -> dict[str, float]:
        """Return the intersection over union of each class that at least one pixel has."""
        measured = zip(self.metrics.per_class_iou, self.metrics.nt_per_class, strict=True)
        return self.name_classes(
            {number: float(iou) for number, (iou, pixels) in enumerate(measured) if pixels}
        )


class DepthValidation(_LabelFilesMixin, DepthValidator):
    """Validates models that estimate a distance for each pixel; there are no classes."""


class ClassifyValidation(ClassNameMixin, ClassificationValidator):
    """Validates models that predict a class for each image."""

    def build_dataset(self, img_path: str) -> ClassificationDataset:
        """List all images, because Ultralytics skips images of classes that `names` lacks."""
        self.names = self.data_names
        return super().build_dataset(img_path)

    def init_metrics(self, model: Any) -> None:
        """Set up metrics by the classes of the data."""
        super().init_metrics(model)
        self._to_data = _match_classes(model.names, self.data_names)
        self.names = self.data_names

    def postprocess(self, preds: Any) -> torch.Tensor:
        """Reorder the scores by the class numbers of the data; a class that the model lacks scores lowest."""
        scores: torch.Tensor = super().postprocess(preds)
        ordered = scores.new_full((len(scores), len(self.data_names)), -torch.inf)
        for column, number in enumerate(self._to_data):
            if number != _NOT_IN_DATA:
                ordered[:, number] = scores[:, column]
        return ordered

    def measure_classes(self) -> dict[str, float]:
        """Return the top-1 accuracy of each class that has an image."""
        right, targets = torch.cat(self.pred)[:, 0], torch.cat(self.targets)
        return self.name_classes(
            {
                number: float((right[targets == number] == number).float().mean())
                for number in sorted(set(targets.tolist()))
            }
        )


VALIDATORS: dict[Task, type[ClassNameMixin]] = {
    "detect": DetectValidation,
    "segment": SegmentValidation,
    "semantic": SemanticValidation,
    "depth": DepthValidation,
    "classify": ClassifyValidation,
    "pose": PoseValidation,
    "obb": ObbValidation,
}


def _match_classes(model: Names, data: Names) -> list[int]:
    """Return, for each class of the model by its number, the number of the class of that name in the data.

    If the model and the data have no class name in common, the model's numbers are taken to be those of the
    data, as in Ultralytics. If several classes of the data have the same name, the one with the model's
    number is chosen.
    """
    classes = sorted(model.items())  # a model trained elsewhere may list 0, 1, 10, 2, as its data did
    if set(model.values()).isdisjoint(data.values()):
        return [number if number in data else _NOT_IN_DATA for number, _ in classes]
    by_name = {name: number for number, name in reversed(list(data.items()))}
    return [
        number if data.get(number) == name else by_name.get(name, _NOT_IN_DATA) for number, name in classes
    ]

"""Ultralytics' validators, changed so that every model is judged by the same standard.

A validator of Ultralytics takes the classes of the model for those of the data. Where the model knows fewer,
it leaves out what the model cannot find, and where the same classes are numbered in another order, it takes
every right answer for a wrong one. A champion that was trained before a class was added would be measured on
an easier test than its challenger. These compare by the names of the classes, on all of the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from ultralytics.models.yolo.classify import ClassificationValidator
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.models.yolo.obb import OBBValidator
from ultralytics.models.yolo.pose import PoseValidator
from ultralytics.models.yolo.segment import SegmentationValidator
from ultralytics.nn.autobackend import check_class_names

if TYPE_CHECKING:
    from torch.utils.data import DataLoader
    from ultralytics.data.dataset import ClassificationDataset

    # A mixin uses what any validator of Ultralytics has.
    from ultralytics.engine.validator import BaseValidator as _Base

    from include.training.contract import Task
else:
    _Base = object

Names = Mapping[int, str]

_ONE_CLASS = {0: "item"}
"""What Ultralytics calls the class that single_cls makes of all."""

_NOT_IN_DATA = -1


class ByName(_Base):  # type: ignore[misc]
    """What all tasks share. A mixin that comes before one of Ultralytics' validators."""

    def __init__(self, args: dict[str, Any], save_dir: Any) -> None:
        super().__init__(save_dir=save_dir, args=args)

    @property
    def data_names(self) -> dict[int, str]:
        """The classes of the data, by their numbers."""
        if self.args.single_cls:
            return _ONE_CLASS
        names: dict[int, str] = check_class_names(dict(self.data["names"]))
        return names

    def per_class(self) -> dict[str, float]:
        """Return the metric of each class that the data hold, by name."""
        raise NotImplementedError

    def named(self, numbers: Mapping[int, float]) -> dict[str, float]:
        """Put the names of the classes for their numbers; classes of the same name keep theirs beside it."""
        names = self.data_names
        once = {name for name in names.values() if list(names.values()).count(name) == 1}
        return {
            names[number] if names[number] in once else f"{names[number]} ({number})": value
            for number, value in numbers.items()
        }

    def close(self) -> None:
        """Leave no process of the loader behind."""
        if self.dataloader is not None:
            self.dataloader.close()


class _Boxes(ByName):
    """Validators that find things: what is found is renumbered to the classes of the data."""

    part = "box"

    def get_dataloader(self, dataset_path: str, batch_size: int) -> DataLoader[Any]:
        """Load all of the data: Ultralytics leaves out the classes that `names` lacks."""
        self.names = self.data_names
        loader: DataLoader[Any] = super().get_dataloader(dataset_path, batch_size)
        return loader

    def init_metrics(self, model: Any) -> None:
        """Prepare to count by the classes of the data."""
        super().init_metrics(model)
        self.metrics.names = self.data_names
        self._to_data = torch.tensor(_numbers(model.names, self.data_names), device=self.device)

    def postprocess(self, preds: Any) -> list[dict[str, torch.Tensor]]:
        """Give what was found the numbers of the data; what the data do not have fits no label."""
        found: list[dict[str, torch.Tensor]] = super().postprocess(preds)
        for each in found:
            each["cls"] = self._to_data[each["cls"].long()].to(each["cls"].dtype)
        return found

    def per_class(self) -> dict[str, float]:
        """AP50-95 of each class that has a label."""
        metric = getattr(self.metrics, self.part)
        return self.named({int(c): float(ap) for c, ap in zip(metric.ap_class_index, metric.ap, strict=True)})


class Detect(_Boxes, DetectionValidator):  # type: ignore[misc]
    """Boxes."""


class Segment(_Boxes, SegmentationValidator):  # type: ignore[misc]
    """Boxes and masks; classes are judged by their masks."""

    part = "seg"


class Pose(_Boxes, PoseValidator):  # type: ignore[misc]
    """Boxes and keypoints; classes are judged by their keypoints."""

    part = "pose"


class Obb(_Boxes, OBBValidator):  # type: ignore[misc]
    """Oriented boxes."""


class Classify(ByName, ClassificationValidator):  # type: ignore[misc]
    """One class an image."""

    def build_dataset(self, img_path: str) -> ClassificationDataset:
        """List all images: Ultralytics leaves out those of classes that `names` lacks."""
        self.names = self.data_names
        return super().build_dataset(img_path)

    def init_metrics(self, model: Any) -> None:
        """Prepare to count by the classes of the data."""
        super().init_metrics(model)
        self._to_data = _numbers(model.names, self.data_names)
        self.names = self.data_names

    def postprocess(self, preds: Any) -> torch.Tensor:
        """Order the scores as the data number their classes; a class that the model lacks comes last."""
        scores: torch.Tensor = super().postprocess(preds)
        ordered = scores.new_full((len(scores), len(self.data_names)), -torch.inf)
        for column, number in enumerate(self._to_data):
            if number != _NOT_IN_DATA:
                ordered[:, number] = scores[:, column]
        return ordered

    def per_class(self) -> dict[str, float]:
        """Top-1 accuracy of each class that has an image."""
        right, targets = torch.cat(self.pred)[:, 0], torch.cat(self.targets)
        return self.named(
            {
                number: float((right[targets == number] == number).float().mean())
                for number in sorted(set(targets.tolist()))
            }
        )


VALIDATORS: dict[Task, type[ByName]] = {
    "detect": Detect,
    "segment": Segment,
    "classify": Classify,
    "pose": Pose,
    "obb": Obb,
}


def _numbers(model: Names, data: Names) -> list[int]:
    """For each class of the model its number in the data, by name.

    A model whose names say nothing (none of them is in the data) is taken to number as the data do, as
    Ultralytics does. Of several classes of one name the number decides.
    """
    if set(model.values()).isdisjoint(data.values()):
        return [number if number in data else _NOT_IN_DATA for number in model]
    by_name = {name: number for number, name in reversed(list(data.items()))}
    return [
        number if data.get(number) == name else by_name.get(name, _NOT_IN_DATA)
        for number, name in model.items()
    ]

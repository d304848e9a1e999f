"""Fine-tuning keeps the weights that fit the new classes, and logs how many were kept."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
import torch
from ultralytics.nn.tasks import load_checkpoint

from include.training.contract import TrainingError
from include.training.run import build_trainer
from tests.support.tiny_datasets import CLASSES
from tests.support.tiny_models import architecture
from tests.support.tiny_trainings import QUICK, Epochs, request
from tests.support.untrained import best


def _built(folder: Path, weights: Path, **arguments: object) -> torch.nn.Module:
    """Return the model that a training run on the folder's data starts from."""
    with build_trainer(
        request("detect", folder, model=str(weights), arguments=QUICK | arguments), Epochs()
    ) as trainer:
        trainer.setup_model()
        model: torch.nn.Module = trainer.model
        return model


def _class_layers(model: torch.nn.Module) -> list[torch.Tensor]:
    return [branch[-1].weight for branch in model.model[-1].cv3]  # type: ignore[index, union-attr]


@pytest.mark.parametrize("classes", [CLASSES[::-1], (*CLASSES[::-1], "circle")])
def test_classes_keep_their_weights_if_their_numbers_change(
    classes: tuple[str, ...], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = best("detect", tmp_path / "w.pt", classes=classes, architecture=architecture(tmp_path))
    with caplog.at_level(logging.INFO):
        model = _built(tmp_path, weights)
    before, _ = load_checkpoint(str(weights))
    places = [classes.index(name) for name in CLASSES]
    for new, old in zip(_class_layers(model), _class_layers(before), strict=True):
        assert torch.equal(new.cpu(), old[places].float())
    transferred = re.search(r"Transferred (\d+)/(\d+) items from pretrained weights", caplog.text)
    assert transferred is not None
    assert transferred[1] == transferred[2]


def test_the_number_of_transferred_weights_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("cat", "dog", "cow")
    weights = best("detect", tmp_path / "w.pt", classes=names, architecture=architecture(tmp_path))
    with caplog.at_level(logging.INFO):
        model = _built(tmp_path, weights)
    before, _ = load_checkpoint(str(weights))
    transferred = re.search(r"Transferred (\d+)/(\d+) items from pretrained weights", caplog.text)
    assert transferred is not None
    assert 0 < int(transferred[1]) < int(transferred[2])
    first = "model.0.conv.weight"
    assert torch.equal(model.state_dict()[first].cpu(), before.state_dict()[first].float())


def test_pretrained_false_uses_only_the_architecture(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    weights = best("detect", tmp_path / "w.pt", architecture=architecture(tmp_path))
    with caplog.at_level(logging.INFO):
        model = _built(tmp_path, weights, pretrained=False)
    before, _ = load_checkpoint(str(weights))
    assert "Transferred" not in caplog.text
    assert not torch.equal(_class_layers(model)[0].cpu(), _class_layers(before)[0].float())


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_a_file_that_ultralytics_saved_without_training_is_accepted(task: str, tmp_path: Path) -> None:
    """`YOLO("yolo11n.yaml").save("x.pt")` writes a file without training."""
    from ultralytics import YOLO

    file = tmp_path / "saved.pt"
    YOLO(architecture(tmp_path, task), task=task).save(file)
    with build_trainer(request(task, tmp_path, model=str(file)), Epochs()) as trainer:
        trainer.setup_model()
        assert trainer.args.task == task
    with pytest.raises(TrainingError, match=f"is a model for {task}, but task=pose"):
        _ = build_trainer(request("pose", tmp_path, model=str(file)), Epochs()).__enter__()

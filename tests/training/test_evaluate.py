"""All models are measured in the same way: on the whole split, with classes matched by name."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml

from include.retraining.gate import METRICS
from include.training.contract import NotResumable, TrainingError, TrainingResult
from include.training.evaluate import Evaluation, evaluate
from include.training.run import train
from include.ultralytics_tasks import Task
from tests.support.dataset_steps import describe
from tests.support.tiny_datasets import CLASSES, TASKS, build
from tests.support.tiny_models import ARGUMENTS, IMAGES, architecture
from tests.support.tiny_trainings import Epochs, request
from tests.support.untrained import best

EPOCHS = 25
ERRORS = {"metrics/abs_rel", "metrics/rmse", "metrics/silog"}
"""Metrics for which lower is better; no gate can use them."""


class Trained(NamedTuple):
    result: TrainingResult
    weights: Path
    data: Path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return a tiny detector that has learnt something, and its data."""
    folder = tmp_path_factory.mktemp("trained")
    data = build("detect", folder / "data", train=IMAGES, val=8)
    training_request = request(
        "detect", folder, data=data, model=architecture(folder), epochs=EPOCHS, arguments=ARGUMENTS
    )
    result = train(training_request, Epochs())
    assert (result.metrics["metrics/mAP50-95(B)"] or 0) > 0.02
    return Trained(result, Path(result.best.path), data)


def measured(weights: Path, data: Path, task: Task = "detect") -> Evaluation:
    return evaluate(weights, data, task, imgsz=64, batch=4, device="cpu")


def changed(trained: Trained, folder: Path, classes: tuple[str, ...], numbers: dict[int, int]) -> Path:
    """Copy the data with different classes; `numbers` maps the class of each label to its new number."""
    shutil.copytree(trained.data.parent, folder, ignore=shutil.ignore_patterns("*.cache"))
    for path in folder.glob("labels/*/*.txt"):
        rows = [line.split() for line in path.read_text().splitlines()]
        path.write_text("".join(f"{numbers[int(row[0])]} {' '.join(row[1:])}\n" for row in rows))
    return describe(folder, path=str(folder), names=dict(enumerate(classes)))


def test_evaluation_returns_the_metrics_that_training_measured(trained: Trained) -> None:
    found = measured(trained.weights, trained.data)
    for name in METRICS["detect"]:
        if name != "fitness":
            assert found.metrics[name] == pytest.approx(trained.result.metrics[name], abs=1e-4), name
    assert found.metrics["fitness"] == pytest.approx(trained.result.fitness, abs=1e-4)
    assert set(found.classes) == set(CLASSES)
    mean = sum(found.classes.values()) / len(found.classes)
    assert mean == pytest.approx(found.metrics["metrics/mAP50-95(B)"], abs=1e-6)
    assert measured(trained.weights, trained.data) == found


def test_a_model_that_lacks_a_class_of_the_data_fails_on_it(trained: Trained, tmp_path: Path) -> None:
    """Ultralytics would skip the labels of that class, and rate the old model as highly as before."""
    before = measured(trained.weights, trained.data)
    data = changed(trained, tmp_path / "more", (*CLASSES, "ring"), {0: 0, 1: 2})
    found = measured(trained.weights, data)
    assert found.classes["ring"] == 0.0
    assert found.classes["box"] == pytest.approx(before.classes["box"], abs=1e-4)
    assert found.metrics["metrics/mAP50-95(B)"] == pytest.approx(before.classes["box"] / 2, abs=1e-4)


def test_classes_are_matched_even_if_they_are_numbered_in_another_order(
    trained: Trained, tmp_path: Path
) -> None:
    """A new class may renumber the others; Ultralytics would then count right answers as wrong."""
    data = changed(trained, tmp_path / "sorted", ("a new one", *reversed(CLASSES)), {0: 2, 1: 1})
    before, found = measured(trained.weights, trained.data), measured(trained.weights, data)
    assert found.classes == pytest.approx(before.classes, abs=1e-6)
    assert found.metrics == pytest.approx(before.metrics, abs=1e-6)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_measured_by_its_own_metrics_and_by_class(task: Task, tmp_path: Path) -> None:
    data = build(task, tmp_path / "data", train=2, val=6)
    found = measured(best(task, tmp_path / "best.pt"), data, task)
    assert found.metrics.keys() >= set(METRICS[task])
    assert found.metrics.keys() - set(METRICS[task]) <= ERRORS
    assert set(found.classes) == (set() if task == "depth" else set(CLASSES))
    assert all(0 <= value <= 1 for value in found.classes.values())
    if task == "classify":  # the data have three images of each of two classes
        assert sum(found.classes.values()) / 2 == pytest.approx(found.metrics["metrics/accuracy_top1"])


def test_a_classifier_with_fewer_or_reordered_classes_is_measured_on_all_images(
    tmp_path: Path,
) -> None:
    data = build("classify", tmp_path / "data", train=2, val=6)
    straight = measured(best("classify", tmp_path / "a.pt", ("arrow", "box")), data, "classify")
    turned = measured(best("classify", tmp_path / "b.pt", ("box", "arrow")), data, "classify")
    assert straight.classes == {name: 1 - value for name, value in turned.classes.items()}
    alone = measured(best("classify", tmp_path / "c.pt", ("arrow", "ring")), data, "classify")
    assert alone.classes == {"arrow": 1.0, "box": 0.0}
    assert alone.metrics["metrics/accuracy_top1"] == 0.5


def sure(name: str, path: Path, classes: tuple[str, ...]) -> Path:
    """Write a semantic model that predicts the class `name` for every pixel; return its path."""
    state = torch.load(best("semantic", path, classes), weights_only=False)
    head = state["model"].model[-1].classifier[-1]
    head.weight.data.zero_()
    head.bias.data.fill_(-1.0)
    head.bias.data[classes.index(name)] = 1.0
    torch.save(state, path)
    return path


def test_a_semantic_model_is_measured_by_class_names(tmp_path: Path) -> None:
    """Each model predicts its class named arrow for every pixel, whatever that class's number."""
    data = build("semantic", tmp_path / "data", train=2, val=6)
    share = {
        classes: measured(sure("arrow", tmp_path / "best.pt", classes), data, "semantic")
        for classes in (CLASSES, CLASSES[::-1], ("ring", "arrow", "box"))
    }
    straight, *others = share.values()
    assert straight.classes["arrow"] > 0.2
    assert straight.classes["box"] == 0.0
    assert straight.metrics["metrics/pixel_acc"] == pytest.approx(straight.classes["arrow"])
    for other in others:
        assert (other.metrics, other.classes) == (straight.metrics, straight.classes)


def test_classes_that_a_model_lists_out_of_order_are_matched_by_number(tmp_path: Path) -> None:
    """A YAML may list its classes as 0, 1, 10, 2, and a model trained on it elsewhere lists them likewise."""
    data = build("semantic", tmp_path / "data", train=2, val=6)
    weights = sure("arrow", tmp_path / "best.pt", CLASSES)
    straight = measured(weights, data, "semantic")
    state = torch.load(weights, weights_only=False)
    for names in (dict(reversed(state["model"].names.items())), {1: "unknown", 0: "other"}):
        state["model"].names = names
        torch.save(state, weights)
        assert measured(weights, data, "semantic") == straight


def test_pixels_predicted_as_a_class_missing_from_the_data_count_as_wrong(tmp_path: Path) -> None:
    """Ultralytics would skip these pixels, so such a model could not be wrong."""
    data = build("semantic", tmp_path / "data", train=2, val=6)
    found = measured(sure("ring", tmp_path / "best.pt", ("ring", *CLASSES)), data, "semantic")
    assert found.classes == {"box": 0.0, "arrow": 0.0}
    assert (found.metrics["metrics/mIoU"], found.metrics["metrics/pixel_acc"]) == (0.0, 0.0)


def test_a_model_of_one_class_is_measured_on_data_with_more_and_vice_versa(tmp_path: Path) -> None:
    data = build("semantic", tmp_path / "data", train=2, val=6)
    arrows = measured(sure("arrow", tmp_path / "a.pt", ("arrow",)), data, "semantic")
    of_both = measured(sure("arrow", tmp_path / "b.pt", CLASSES), data, "semantic")
    assert arrows.classes == of_both.classes
    single = describe(data.parent, names={0: "arrow"}, label_mapping={0: 0, 1: 1})
    assert measured(tmp_path / "b.pt", single, "semantic") == measured(tmp_path / "a.pt", single, "semantic")


def test_only_label_caches_are_written(
    trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(trained.data.parent.rglob("*"))
    measured(trained.weights, trained.data)
    assert list(tmp_path.iterdir()) == []
    assert {path.suffix for path in set(trained.data.parent.rglob("*")) - before} <= {".cache"}


def test_a_model_that_cannot_be_measured_is_refused_with_a_reason(trained: Trained, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"best.pt is a model for detect, so it cannot .* task=segment"):
        evaluate(trained.weights, trained.data, "segment", device="cpu")
    (tmp_path / "data.yaml").write_text(yaml.safe_dump({"train": "a", "val": "b", "names": ["c"]}))
    with pytest.raises(TrainingError, match=r"best.pt cannot be evaluated on .*data.yaml"):
        evaluate(trained.weights, tmp_path / "data.yaml", "detect", device="cpu")


class Planted:
    """An object that an attacker could put into a file: unpickling the object writes another file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self._path, "I ran")


def test_a_file_that_runs_code_when_loaded_is_refused(trained: Trained, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    torch.save({"model": Planted(ran), "train_args": {"task": "detect"}}, tmp_path / "bad.pt", pickle)
    with pytest.raises(NotResumable, match="not a checkpoint that can be loaded safely"):
        evaluate(tmp_path / "bad.pt", trained.data, "detect", device="cpu")
    assert not ran.exists()

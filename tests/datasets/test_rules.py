"""The check and the view follow the training arguments that change which data are valid."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from include.datasets.errors import DatasetError
from include.datasets.rules import CheckRules, check_rules
from include.training.run import train
from tests.support.dataset_steps import check_dataset, check_here, describe, materialize, refusal
from tests.support.tiny_datasets import build
from tests.support.tiny_models import architecture
from tests.support.tiny_trainings import QUICK, Epochs, request

if TYPE_CHECKING:
    from include.ultralytics_tasks import Task


def _add_test_split(folder: Path) -> Path:
    """Copy three images into a split named test, and remove the images of val."""
    for kind in ("images", "labels"):
        (folder / kind / "test").mkdir()
        for file in sorted((folder / kind / "train").iterdir())[:3]:
            shutil.copy(file, folder / kind / "test" / file.name)
        shutil.rmtree(folder / kind / "val")
    return describe(folder, test="images/test")


def test_a_training_run_that_validates_on_test_gets_the_test_images(folder: Path, cache: Path) -> None:
    from ultralytics.data.utils import check_det_dataset

    build("detect", folder)
    data = _add_test_split(folder)
    assert "val: 'images/val' does not exist" in refusal(data, "detect", cache)
    reference = check_here(data, "detect", cache, split="test")
    assert (reference.train_images, reference.val_images, reference.split) == (8, 3, "test")
    view = materialize(reference, cache, None).data
    found = check_det_dataset(view, autodownload=False, split="test")
    assert sorted(path.name for path in Path(found["test"]).iterdir()) == ["0.png", "1.png", "2.png"]


@pytest.mark.parametrize("task", ["detect", "classify"])
def test_a_run_with_test_as_its_validation_split_completes(
    task: Task, folder: Path, cache: Path, tmp_path: Path
) -> None:
    data = build(task, folder)
    if task == "classify":
        (folder / "val").rename(folder / "test")
    else:
        data = _add_test_split(folder)
    reference = check_here(data, task, cache, split="test")
    training = request(
        task,
        tmp_path,
        model=architecture(tmp_path, task),
        data=materialize(reference, cache, None).data,
        save_dir=tmp_path / "run",
        arguments=QUICK | {"split": "test"},
    )
    assert train(training, Epochs()).best.path


def test_a_split_that_the_dataset_lacks_is_refused(folder: Path, cache: Path) -> None:
    data = build("detect", folder)
    assert "test: None must be a folder" in refusal(data, "detect", cache, split="test")
    with pytest.raises(DatasetError, match="have no such split"):
        check_dataset("digits", "detect", cache, None, split="test")


def test_validating_on_train_needs_no_other_images(folder: Path, cache: Path) -> None:
    data = build("detect", folder)
    shutil.rmtree(folder / "images" / "val")
    reference = check_here(data, "detect", cache, split="train")
    assert (reference.train_images, reference.val_images) == (8, 8)
    assert materialize(reference, cache, None).data.is_file()


def test_different_splits_of_the_same_data_have_separate_views(folder: Path, cache: Path) -> None:
    build("classify", folder)
    shutil.copytree(folder / "val", folder / "test")
    (folder / "test" / "box" / "0.png").unlink()
    usual = check_here(folder, "classify", cache)
    tested = check_here(folder, "classify", cache, split="test")
    assert (usual.val_images, tested.val_images) == (4, 3)
    views = [materialize(reference, cache, None).data for reference in (usual, tested)]
    assert [sorted(path.name for path in view.iterdir()) for view in views] == [
        ["train", "val"],
        ["test", "train"],
    ]


def test_images_of_val_stand_in_for_a_test_split_of_class_folders(folder: Path, cache: Path) -> None:
    build("classify", folder)
    assert check_here(folder, "classify", cache, split="test").val_images == 4


@pytest.mark.parametrize(
    ("arguments", "rules"),
    [
        ({}, CheckRules()),
        ({"classes": 1, "epochs": 3}, CheckRules(classes=(1,))),
        (
            {"classes": [2, 0], "single_cls": True, "split": "test"},
            CheckRules(single_cls=True, classes=(2, 0), split="test"),
        ),
        ({"classes": None, "single_cls": None}, CheckRules()),
    ],
)
def test_rules_are_read_from_the_arguments_of_a_training_run(
    arguments: dict[str, object], rules: CheckRules
) -> None:
    assert check_rules(arguments) == rules


@pytest.mark.parametrize(
    ("name", "value", "form"),
    [
        ("classes", ["cat"], "class ids, such as"),
        ("classes", [0.5], "class ids, such as"),
        ("single_cls", "perhaps", "true or false"),
        ("split", "minival", "train, val or test"),
    ],
)
def test_an_argument_of_the_wrong_form_is_refused(name: str, value: object, form: str) -> None:
    with pytest.raises(DatasetError, match=f"^{name}=.*{form}"):
        check_rules({name: value})

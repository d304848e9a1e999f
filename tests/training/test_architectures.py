"""Architecture names are distinguished from file names as in Ultralytics, but without importing it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from include.training.architectures import (
    TABLE,
    find_architecture,
    find_default_weights,
    find_release_url,
    is_architecture,
    list_file_names,
    read_architectures,
    read_published_weights,
    suggest_architecture,
    suggest_weights,
)
from include.training.contract import TrainingError
from include.training.derive_tables import derive_architectures
from include.training.models import resolve_model
from include.ultralytics_tasks import TASKS, Task

PAYLOAD = "activation: open('trace', 'w')\n"


def test_the_table_is_that_of_the_installed_ultralytics() -> None:
    assert json.loads(TABLE.read_text(encoding="utf-8")) == derive_architectures()


def test_every_shipped_architecture_is_known_in_each_of_its_sizes() -> None:
    from ultralytics import cfg

    shipped = {path.stem: path for path in Path(cfg.__file__).parent.glob("models/*/*.yaml")}
    assert shipped.keys() == read_architectures().keys()
    for stem, path in shipped.items():
        sizes = yaml.safe_load(path.read_text(encoding="utf-8")).get("scales", {})
        own = re.search(r"v\d+[a-z]", stem)  # yolov10n.yaml and others of its kind are separate files
        names = (
            [stem] if own else [stem, *(re.sub(r"(v?\d+)", rf"\1{size}", stem, count=1) for size in sizes)]
        )
        for name in names:
            assert is_architecture(name), name
            assert is_architecture(f"{name}.yaml"), name


@pytest.mark.parametrize("name", ["yolo11n-seg", "yolov8x6", "yolov10s", "rtdetr-l", "yolo26"])
def test_ultralytics_finds_every_name_that_counts_as_an_architecture(name: str) -> None:
    from ultralytics.nn.tasks import yaml_model_load

    assert is_architecture(name)
    assert "head" in yaml_model_load(f"{name}.yaml")


@pytest.mark.parametrize(
    "model",
    [
        "/etc/passwd.yaml",
        "../yolo11n.yaml",
        "./yolo11n.yaml",
        "a/yolo11n",
        "yolo11n\n",
        "",
        "coco8.yaml",
        "yolo11n.pt",
    ],
)
def test_anything_but_a_plain_architecture_name_is_refused(model: str) -> None:
    assert not is_architecture(model)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("YOLO11n", "yolo11n"),
        ("yolo11n ", "yolo11n"),
        ("yolov11n", "yolo11n"),
        ("rtdetr-l", None),
        ("qwertz", None),
    ],
)
def test_a_mistyped_name_suggests_an_existing_one(typed: str, meant: str | None) -> None:
    assert suggest_architecture(typed) == meant


@pytest.mark.parametrize("name", ["yolov3n", "yolo11z", "yolov10n2", "yolo26n-world"])
def test_a_size_or_kind_that_ultralytics_does_not_ship_is_not_an_architecture(name: str) -> None:
    assert not is_architecture(name)


def test_only_architectures_that_can_be_trained_here_have_a_task() -> None:
    shipped = read_architectures()
    others = {name for name, each in shipped.items() if each.task is None}
    assert {"rtdetr-l", "yolov8-rtdetr", "yolov8-world", "yoloe-11"} <= others
    assert shipped["yolo26-obb"].task == "obb"
    assert {task for task in read_published_weights().values() if task} >= set(TASKS)


@pytest.mark.parametrize("task", TASKS)
def test_the_default_of_a_task_is_a_published_file_for_it(task: Task) -> None:
    weights = find_default_weights(task)
    assert read_published_weights()[weights] == task
    architecture = find_architecture(weights.removesuffix(".pt"))
    assert architecture is not None
    assert architecture.task == task


def test_a_published_file_is_suggested_for_a_similar_name() -> None:
    assert suggest_weights("yolov11n.pt") == "yolo11n.pt"
    assert suggest_weights("sam_b.pt") is None
    assert find_release_url().startswith("https://github.com/ultralytics/assets/releases/download/v")


@pytest.mark.parametrize("name", list_file_names("yolo11n"))
def test_a_file_in_the_working_directory_is_not_used_as_an_architecture(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(PAYLOAD)
    with pytest.raises(TrainingError, match="would be used instead; remove that file"):
        resolve_model("yolo11n", "detect")
    with pytest.raises(TrainingError, match="does not describe a model"):
        resolve_model(f"./{name}", "detect")
    assert not Path("trace").exists()


def test_a_file_that_is_not_yaml_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "secrets.yaml"
    path.write_text("a: [secret\nb: }")
    with pytest.raises(TrainingError, match="is not valid YAML") as refusal:
        resolve_model(str(path), "detect")
    assert "[secret" not in str(refusal.value)

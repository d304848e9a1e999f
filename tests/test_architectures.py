"""Names of architectures are told from files, without Ultralytics and as Ultralytics reads them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from include.training.architectures import (
    file_names,
    is_architecture,
    shipped_architectures,
    similar_architecture,
)
from include.training.contract import TrainingError
from include.training.models import resolve_model

PAYLOAD = "activation: open('trace', 'w')\n"


def test_every_shipped_architecture_is_known_in_each_of_its_sizes() -> None:
    from ultralytics import cfg

    shipped = {path.stem: path for path in Path(cfg.__file__).parent.glob("models/*/*.yaml")}
    assert shipped.keys() == shipped_architectures()
    for stem, path in shipped.items():
        sizes = yaml.safe_load(path.read_text(encoding="utf-8")).get("scales", {})
        own = re.search(r"v\d+[a-z]", stem)  # yolov10n and the like are files of their own
        names = (
            [stem] if own else [stem, *(re.sub(r"(v?\d+)", rf"\1{size}", stem, count=1) for size in sizes)]
        )
        for name in names:
            assert is_architecture(name), name
            assert is_architecture(f"{name}.yaml"), name


@pytest.mark.parametrize("name", ["yolo11n-seg", "yolov8x6", "yolov10s", "rtdetr-l", "yolo26"])
def test_ultralytics_finds_what_is_taken_for_an_architecture(name: str) -> None:
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
def test_what_is_no_plain_name_of_one_is_no_architecture(model: str) -> None:
    assert not is_architecture(model)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("YOLO11n", "yolo11n"), ("yolo11n ", "yolo11n"), ("yolov11n", "yolo11n"), ("qwertz", None)],
)
def test_a_mistyped_name_suggests_one_that_exists(typed: str, meant: str | None) -> None:
    assert similar_architecture(typed) == meant


@pytest.mark.parametrize("name", file_names("yolo11n"))
def test_a_file_of_the_working_directory_is_not_taken_for_an_architecture(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text(PAYLOAD)
    with pytest.raises(TrainingError, match="would take its place; remove that file"):
        resolve_model("yolo11n", "detect")
    with pytest.raises(TrainingError, match="describes no model"):
        resolve_model(f"./{name}", "detect")
    assert not Path("trace").exists()


def test_a_file_that_is_no_yaml_is_not_quoted(tmp_path: Path) -> None:
    path = tmp_path / "secrets.yaml"
    path.write_text("a: [secret\nb: }")
    with pytest.raises(TrainingError, match="is not valid YAML") as refusal:
        resolve_model(str(path), "detect")
    assert "[secret" not in str(refusal.value)

"""Training arguments are checked by name, type and range as Ultralytics does, but without importing it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from include.jobs.spec import SpecError, TrainingSpec
from include.training.arguments import FILES, OURS, TABLE, check_overrides, read_known_arguments
from include.training.derive_tables import derive_arguments

ROOT = Path(__file__).parents[2]


def test_the_table_is_that_of_the_installed_ultralytics() -> None:
    assert json.loads(TABLE.read_text(encoding="utf-8")) == derive_arguments()


def test_every_ultralytics_default_is_accepted_unless_this_project_sets_the_argument() -> None:
    from ultralytics.cfg import DEFAULT_CFG_DICT

    check_overrides({name: DEFAULT_CFG_DICT[name] for name in read_known_arguments() if name not in OURS})
    for name in OURS:
        with pytest.raises(ValueError, match=f"^{name} cannot be overridden: "):
            check_overrides({name: DEFAULT_CFG_DICT.get(name)})


def test_every_string_argument_is_a_choice_or_a_known_file() -> None:
    """A new argument of Ultralytics that may name a file fails this test until it is in FILES or OURS."""
    open_texts = {
        name
        for name, argument in read_known_arguments().items()
        if "str" in argument["kinds"] and "choices" not in argument
    }
    assert open_texts - set(OURS) == set(FILES)
    lists = {name for name, argument in read_known_arguments().items() if "list" in argument["kinds"]}
    assert lists - set(OURS) == {"classes", "fraction", "freeze", "imgsz", "scale"}, "none names a file"


PATHS = [
    "/etc/passwd",
    "/etc/passwd.yaml",
    "../x.pt",
    "x.pt",
    "https://example.org/x.pt",
    "ul://a/b",
    "s3://b/x.pt",
]
NEVER_ARGUMENTS = ["augmentations", "teacher", "save_dir", "source", "tracker", "hub_model"]


@pytest.mark.parametrize("path", PATHS)
def test_no_argument_of_a_job_takes_a_path(path: str) -> None:
    from ultralytics.cfg import DEFAULT_CFG_DICT

    for name in {*DEFAULT_CFG_DICT, *read_known_arguments(), *OURS, *FILES, *NEVER_ARGUMENTS}:
        with pytest.raises(SpecError, match=f"^{name}[ =]"):
            TrainingSpec.parse({"overrides": {name: path}})


ACCEPTED: list[dict[str, object]] = [
    {"mosaic": 0.5, "cos_lr": True, "close_mosaic": 0},
    {"optimizer": "sgd", "momentum": 1},
    {"batch": -1},
    {"batch": 0.7},
    {"cache": "disk"},
    {"cache": "RAM", "amp": "BF16", "quantize": "FP16"},
    {"cache": True},
    {"fraction": 100},
    {"fraction": [0.5, 40]},
    {"fraction": [1, 1.0, 0]},
    {"scale": [0.5, 1.5]},
    {"classes": 0},
    {"classes": [0, 2]},
    {"quantize": 16},
    {"freeze": [0, 1]},
    {"amp": "bf16"},
    {"auto_augment": None, "time": None},
    {"degrees": -10.0, "shear": -2.0, "box": 0, "warmup_epochs": 0.5},
]

REFUSED: list[tuple[dict[str, object], str]] = [
    ({"mosiac": 1.0}, "mosiac is not a training argument of Ultralytics; did you mean mosaic?"),
    ({"qwertz": 1}, "qwertz is not a training argument of Ultralytics; they are listed at https://"),
    ({"format": "onnx"}, "format is not a training argument"),
    ({"mosaic": 1.5}, "mosaic=1.5 is refused: it must be a number between 0 and 1"),
    ({"quantize": "INT8"}, "quantize='INT8' is refused: training with it needs nvidia-modelopt"),
    ({"quantize": 8}, "quantize=8 is refused: training with it needs nvidia-modelopt"),
    ({"mosaic": float("nan")}, "mosaic=nan is refused"),
    ({"mosaic": True}, "mosaic=True is refused"),
    ({"close_mosaic": 2.5}, "close_mosaic=2.5 is refused: it must be a whole number"),
    ({"cos_lr": 1}, "cos_lr=1 is refused: it must be true or false"),
    ({"nbs": 0}, "nbs=0 is refused: it must be 1 or more"),
    ({"box": -1}, "box=-1 is refused: it must be 0 or more"),
    ({"warmup_epochs": -5}, "warmup_epochs=-5 is refused: it must be 0 or more"),
    ({"box": None}, "box=null is refused: omit it"),
    ({"compile": "no-such-mode"}, "compile='no-such-mode' is refused: it must be true or false, 'default'"),
    ({"cache": "tape"}, "cache='tape' is refused: it must be true or false, 'ram' or 'disk'"),
    ({"fraction": 0}, "fraction=0 is refused: it must be a share of the training images, up to 1"),
    ({"copy_paste_mode": "Flip"}, "copy_paste_mode='Flip' is refused: it must be 'flip' or 'mixup'"),
    ({"auto_augment": "RandAugment"}, "auto_augment='RandAugment' is refused: it must be 'randaugment'"),
    ({"compile": "Default"}, "compile='Default' is refused: it must be true or false, 'default'"),
    ({"fraction": -1}, "fraction=-1 is refused"),
    ({"fraction": [0.5]}, "fraction=[0.5] is refused"),
    ({"fraction": [0.5, "x"]}, "fraction=[0.5, 'x'] is refused"),
    ({"scale": [0.5]}, "scale=[0.5] is refused: it must be a number between 0 and 1, or the smallest and"),
    ({"scale": ["a", "b"]}, "scale=['a', 'b'] is refused"),
    ({"scale": "large"}, "scale='large' is refused: it must be a number between 0 and 1, or the smallest"),
    ({"quantize": 4}, "quantize=4 is refused: it must be 16, 32, 'fp16'"),
    ({"classes": ["0"]}, "classes=['0'] is refused: it must be a class id, or a list of them"),
    ({"data": "coco8.yaml"}, "data cannot be overridden: give the job's dataset"),
    ({"resume": True}, "resume cannot be overridden: to continue a job, give resume_from"),
]


@pytest.mark.parametrize("overrides", ACCEPTED, ids=str)
def test_values_that_ultralytics_accepts_are_accepted(overrides: dict[str, object]) -> None:
    from ultralytics.cfg import get_cfg

    check_overrides(overrides)
    get_cfg(overrides=overrides)


@pytest.mark.parametrize(("overrides", "sentence"), REFUSED, ids=str)
def test_an_invalid_argument_is_refused_with_a_reason(overrides: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValueError) as refusal:  # noqa: PT011 - the whole sentence is compared below
        check_overrides(overrides)
    assert str(refusal.value).startswith(sentence)


ANY: list[object] = [
    *(-1, 0, 1, 2, 16, 0.5, 1.5, 2.0, 1e9, True, False, "a", "1", "ram", " ", {}, {"a": 1}),
    *([], [1], ["a"], [-1], [0.5], [0.5, 2.0], [2, 1], [1, 2, 3], [None], [[1]], [0, 1], [0.5, "x"], [True]),
]


def test_no_value_that_is_accepted_is_refused_by_ultralytics() -> None:
    """Ultralytics would refuse it only once the job has its GPU."""
    from ultralytics.cfg import get_cfg

    for name in sorted(read_known_arguments().keys() - OURS.keys()):
        for value in ANY:
            try:
                check_overrides({name: value})
            except ValueError:
                continue
            get_cfg(overrides={name: value})


def test_only_class_ids_that_ultralytics_compares_with_labels_are_accepted() -> None:
    """Ultralytics accepts the text "0" as well, but no label is of that class: it would train on nothing."""
    import numpy

    for classes in ([0], [0, 2], 1):
        check_overrides({"classes": classes})
        assert (numpy.array([[0.0], [1.0]]) == numpy.array(classes).reshape(1, -1)).any()
    for wrong in (["0"], [None], [[0]], [True], [0.5]):
        with pytest.raises(ValueError, match=r"^classes="):
            check_overrides({"classes": wrong})


def test_contract_arguments_and_loading_can_be_imported_without_torch() -> None:
    program = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "ultralytics", "numpy", "cv2", "polars", "yaml"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import os
before = dict(os.environ)
import include.training.loading, include.training.__main__, include.training.contract
from include.training.arguments import check_overrides
check_overrides({"mosaic": 0.5})
assert dict(os.environ) == before, "an import has changed the environment"
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    "program",
    [
        "from include.training.loading import load_checkpoint; load_checkpoint(Path(__file__))",
        "from include.training.evaluate import evaluate; evaluate(Path(__file__), Path(), 'detect')",
        "from include.training.quiet import tame_ultralytics; tame_ultralytics()",
    ],
)
def test_ultralytics_is_imported_only_after_isolating_it(program: str, tmp_path: Path) -> None:
    hook = """
import os, sys
from pathlib import Path

class Imported(Exception):
    pass

class Ultralytics:
    def find_spec(self, name, path=None, target=None):
        if name in {"torch", "ultralytics"}:  # ultralytics imports torch too
            raise Imported(os.environ.get("YOLO_OFFLINE"), os.environ.get("ULTRALYTICS_SAFE_LOAD"))

sys.meta_path.insert(0, Ultralytics())
"""
    file = tmp_path / "program.py"
    file.write_text(f"{hook}\n{program}\n")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("YOLO_", "ULTRALYTICS_"))
    }
    ran = subprocess.run(
        [sys.executable, file],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert "Imported: ('true', 'true')" in ran.stderr, ran.stderr

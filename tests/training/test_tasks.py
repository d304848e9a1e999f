"""The tasks are those of Ultralytics, and every table has an entry for each task."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest
from ultralytics import YOLO
from ultralytics.cfg import TASK2METRIC, TASK2MODEL
from ultralytics.cfg import TASKS as INSTALLED

from include.checkpoints.inspection.classes import MODELS
from include.jobs.spec import TrainingSpec
from include.orchestration.params import dag_params
from include.retraining.gate import METRICS
from include.training.architectures import (
    find_default_architecture,
    find_default_metric,
    find_default_weights,
    is_architecture,
)
from include.training.contract import MODEL_SUFFIX
from include.training.trainers import TRAINERS
from include.training.validators import VALIDATORS
from include.ultralytics_tasks import TASKS, Task
from tests.support.tiny_models import _HEADS
from tests.support.untrained import _MODELS

ROOT = Path(__file__).parents[2]

TABLES: dict[str, Collection[str]] = {
    "suffixes": MODEL_SUFFIX,
    "trainers": TRAINERS,
    "validators": VALIDATORS,
    "models in checkpoints": MODELS,
    "metrics of the gate": METRICS,
    "tiny heads": _HEADS,
    "untrained models": _MODELS,
}

SUGGESTIONS = (ROOT / "include" / "console" / "static" / "suggestions.js").read_text(encoding="utf-8")


def test_the_tasks_are_those_of_the_installed_ultralytics() -> None:
    assert TASKS == INSTALLED


@pytest.mark.parametrize("table", TABLES)
def test_every_table_has_an_entry_for_every_task(table: str) -> None:
    assert set(TABLES[table]) == set(TASKS)


@pytest.fixture(scope="module")
def task_map() -> Mapping[str, Mapping[str, type]]:
    """Return the classes that Ultralytics uses for each task."""
    return YOLO("yolo11n.yaml").task_map  # type: ignore[no-any-return]


@pytest.mark.parametrize("task", TASKS)
def test_every_task_uses_ultralytics_own_classes(
    task: Task, task_map: Mapping[str, Mapping[str, type]]
) -> None:
    theirs = task_map[task]
    assert MODELS[task] == f"{theirs['model'].__module__}.{theirs['model'].__qualname__}"
    assert issubclass(TRAINERS[task], theirs["trainer"])
    assert issubclass(VALIDATORS[task], theirs["validator"])


@pytest.mark.parametrize("task", TASKS)
def test_every_task_starts_from_ultralytics_own_model_and_is_judged_by_its_metric(task: Task) -> None:
    assert find_default_weights(task) == TASK2MODEL[task] == f"yolo26n{MODEL_SUFFIX[task]}.pt"
    assert is_architecture(find_default_architecture(task))
    assert find_default_metric(task) == TASK2METRIC[task]
    assert TASK2METRIC[task] in METRICS[task]


def test_every_dataset_that_ultralytics_builds_is_seeded() -> None:
    from ultralytics.data import build, dataset

    from include.training.seeded_datasets import SEEDED

    built = set(re.findall(r"\b(\w+Dataset)\b", Path(build.__file__).read_text(encoding="utf-8")))
    others = {"YOLOMultiModalDataset", "GroundingDataset", "YOLOConcatDataset", "BaseDataset"}
    of_images = {getattr(dataset, name) for name in built - others}
    assert of_images | {dataset.ClassificationDataset} == set(SEEDED)


def test_the_console_suggests_architectures_that_exist_for_every_task() -> None:
    written = re.search(r"const SUFFIX = \{(.*?)\}", SUGGESTIONS, re.DOTALL)
    assert written
    assert dict(re.findall(r'(\w+): "([^"]*)"', written[1])) == MODEL_SUFFIX
    lists = dict(re.findall(r"const (\w+) = \[(.*?)\]", SUGGESTIONS))
    families, newest = (re.findall(r'"(\w+)"', lists[name]) for name in ("FAMILIES", "NEW_TASKS"))
    for task in TASKS:
        for family in families[-1:] if task in newest else families:
            assert is_architecture(f"{family}n{MODEL_SUFFIX[task]}"), (family, task)


def test_the_form_and_the_documentation_name_every_task() -> None:
    shown: dict[str, Any] = dag_params(TrainingSpec)["task"].schema
    assert [task for task in shown["enum"] if task] == list(TASKS)
    documented = (ROOT / "docs" / "parameters.md").read_text(encoding="utf-8")
    assert f"string: {', '.join(TASKS)} |" in documented

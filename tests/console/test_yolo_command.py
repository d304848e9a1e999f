"""The plain Ultralytics command that the start form shows contains none of our own parameters."""

from __future__ import annotations

import json
from typing import Any

from include.jobs.spec import TrainingSpec
from include.orchestration.params import dag_params
from include.training.arguments import read_known_arguments
from tests.support.node import evaluate, needs_node

pytestmark = needs_node


def translate(expression: str) -> Any:
    """Return the value of an expression that uses `module` and the `fields` of the form."""
    form = dag_params(TrainingSpec)
    fields = json.dumps([{"name": name, "schema": param.schema} for name, param in form.items()])
    return evaluate("yolo-command.js", f"((fields) => {expression})({fields})")


def command_of(conf: dict[str, Any]) -> list[str]:
    return str(translate(f"module.commandOf({json.dumps(conf)}, fields)")).split()


def test_the_command_has_only_arguments_of_ultralytics() -> None:
    everything: dict[str, Any] = dict.fromkeys(TrainingSpec.model_fields, "1")
    conf = everything | {"task": "segment", "overrides": {"mosaic": 0.5}}
    start, arguments = command_of(conf)[:3], {word.partition("=")[0] for word in command_of(conf)[3:]}
    assert start == ["yolo", "segment", "train"]
    assert arguments <= read_known_arguments().keys()
    assert {"model", "data", "epochs", "lr0", "mosaic"} <= arguments


def test_the_command_read_back_gives_the_same_parameters() -> None:
    conf = {"task": "pose", "dataset": "parts", "model": "yolo11n-pose", "epochs": 3, "overrides": {"box": 2}}
    line = " ".join(command_of(conf))
    read = translate(f"module.readCommand({json.dumps(line)}, fields)")
    assert read["ignored"] == []
    assert json.loads(read["texts"].pop("overrides")) == conf.pop("overrides")
    assert read["texts"] == {name: str(value) for name, value in conf.items()}

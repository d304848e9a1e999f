"""The console judges a job by the metric of its task, and draws every metric with its own name."""

from __future__ import annotations

import json
from typing import Any

from include.retraining.gate import METRICS
from include.training.architectures import find_default_metric
from include.ultralytics_tasks import TASKS, Task
from tests.support.node import evaluate, needs_node

ERRORS = ("metrics/abs_rel", "metrics/rmse", "metrics/silog")

pytestmark = needs_node


def answer(expression: str) -> Any:
    """Return the value of an expression that uses the module's functions, as Node computes it."""
    return evaluate("metrics.js", expression)


def recorded(task: Task) -> list[str]:
    """Return the metrics of a row, ordered as jsonb orders keys: by length, then alphabetically."""
    names = [name for name in METRICS[task] if name != "fitness"] + list(ERRORS) * (task == "depth")
    return sorted(names, key=lambda name: (len(name), name))


def test_a_job_of_every_task_is_judged_by_the_metric_of_its_task() -> None:
    rows = {task: dict.fromkeys(recorded(task), 0.5) for task in TASKS}
    judged = answer(f"Object.entries({json.dumps(rows)}).map(([task, row]) => module.headline(row).name)")
    assert judged == [find_default_metric(task) for task in TASKS]


def test_every_metric_of_every_task_is_drawn_with_a_title_in_words() -> None:
    names = sorted({name for task in TASKS for name in recorded(task)})
    groups = answer(f"module.chartGroups({json.dumps(names)})")
    assert sorted(curve["name"] for group in groups for curve in group["series"]) == names
    assert all(" " in group["title"] or group["title"] == "Accuracy" for group in groups)
    assert {group["kind"] for group in groups if group["series"][0]["name"] in ERRORS} == {"loss"}


def test_lower_is_better_for_errors_and_losses_only() -> None:
    names = [*ERRORS, "val/dlog_loss", *(find_default_metric(task) for task in TASKS)]
    lower = answer(f"{json.dumps(names)}.filter(module.lowerIsBetter)")
    assert lower == [*ERRORS, "val/dlog_loss"]


def test_a_metric_that_a_host_application_recorded_as_text_is_shown() -> None:
    values = ["0.888", "0.0004", [0.0001], 0.0004]
    shown = evaluate("format.js", f"{json.dumps(values)}.map((value) => module.formatNumber(value))")
    assert shown == ["0.888", "0.0004", "0.0001", "4.0e-4"]

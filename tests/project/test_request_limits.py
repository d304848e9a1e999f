"""The parameters of Dags other than train_yolo also have limits, each with its own error message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from include.models.request import PromotionRequest
from include.registry.request import RegisterRequest
from include.request import RequestRefused
from include.retraining.plans import PlanError, load_plans
from include.retraining.request import RetrainRequest
from include.schema.request import MigrationRequest
from include.tasks.watch_dataset import WatchRequest

PLAN = "plans:\n- {name: digits, dataset: digits, gate: {}}\n"


@pytest.mark.parametrize(
    ("parse", "conf", "reason"),
    [
        (
            PromotionRequest.parse,
            {"name": "a", "version": 2**31},
            "version=2147483648",
        ),
        (
            PromotionRequest.parse,
            {"name": "a", "version": 10**5000},
            "version=<int>",
        ),
        (
            PromotionRequest.parse,
            {"name": "a", "reason": "b" * 1025},
            "at most 1024 char",
        ),
        (
            PromotionRequest.parse,
            {"name": "a", "reason": "b\0"},
            "a control character",
        ),
        (MigrationRequest.parse, {"target": "a" * 65}, "at most 64 characters"),
        (WatchRequest.parse, {"dataset": "s3://" + "a" * 1024}, "at most 1024 characters"),
        (RetrainRequest.parse, {"plan": "a" * 10**6}, "at most 64 characters"),
        (RegisterRequest.parse, {"name": "a" * 129, "source": "digits"}, "1 to 128 letters"),
        (RegisterRequest.parse, {"name": "digits", "source": "digits"}, "and not 'digits' or"),
        (RegisterRequest.parse, {"name": "a", "source": "s3://" + "a" * 1024}, "at most 1024 characters"),
        (RegisterRequest.parse, {"name": "a", "source": "digits", "note": "b\0"}, "a control character"),
        (RegisterRequest.parse, {"name": "a", "source": "b@3"}, "source='b@3' is not an address"),
        (RegisterRequest.parse, {"name": "a", "source": "b@x"}, "source='b@x'"),
        (RegisterRequest.parse, {"name": "a", "source": "http://c/d"}, "source='http://c/d'"),
        (RegisterRequest.parse, {"name": "a", "source": "digits", "task": "pose"}, "'digits' is for task"),
    ],
)
def test_a_value_beyond_its_limit_is_named(
    parse: Callable[[dict[str, Any]], object], conf: dict[str, Any], reason: str
) -> None:
    with pytest.raises(RequestRefused, match=reason) as refused:
        parse(conf)
    assert len(str(refused.value)) < 300


def test_the_parameters_of_a_retraining_run_have_the_limits_of_train_yolo(tmp_path: Path) -> None:
    (tmp_path / "plans.yaml").write_text(PLAN)
    plan = load_plans(tmp_path / "plans.yaml").require("digits")
    request = RetrainRequest.parse({"plan": "digits", "parameters": {"overrides": {"mosaic": 10**400}}})
    with pytest.raises(PlanError, match="a number of more than 18 digits"):
        request.apply_to(plan)


@pytest.mark.parametrize("content", ["plans: " + "[" * 800, "plans: [2001-99-99]", f"plans: {'9' * 5000}"])
def test_an_unreadable_plan_file_is_reported_and_raises_no_exception(content: str, tmp_path: Path) -> None:
    (tmp_path / "plans.yaml").write_text(content)
    (error,) = load_plans(tmp_path / "plans.yaml").errors
    assert "cannot be read as YAML" in error

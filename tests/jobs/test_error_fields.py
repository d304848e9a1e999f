"""An error names the parameter to change in a separate field, whatever its message says."""

from __future__ import annotations

from typing import Any, Self

import pytest
from pydantic import BaseModel, ValidationError, model_validator

from include import refusals
from include.jobs.spec import SpecError, TrainingSpec
from include.refusals import FieldError, describe_errors, find_first_error

SEMANTIC = {"task": "semantic", "dataset": "s3://bucket/data.zip"}


class _Pair(BaseModel):
    """A model whose first field must be less than its second field."""

    low: int = 0
    high: int = 0

    @model_validator(mode="after")
    def _require_order(self) -> Self:
        if self.low > self.high:
            raise FieldError("low must not exceed it").about("high")
        if self.low == self.high:
            raise ValueError("low and high are equal")
        return self


@pytest.mark.parametrize(
    ("given", "sentences"),
    [
        ({"low": 2, "high": 1}, {"high": "low must not exceed it"}),
        ({"low": 1, "high": 1}, {"": "low and high are equal"}),
    ],
)
def test_the_words_of_an_error_do_not_decide_where_it_is_shown(
    given: dict[str, int], sentences: dict[str, str]
) -> None:
    with pytest.raises(ValidationError) as refusal:
        _Pair.model_validate(given)
    assert describe_errors(refusal.value, _Pair, "pair") == sentences
    first = find_first_error(refusal.value, _Pair, "pair")
    assert {first.field: str(first)} == sentences
    assert not hasattr(refusals, "field_of")


@pytest.mark.parametrize(
    ("params", "field", "begins"),
    [
        ({"overrides": {"mozaic": 1}}, "overrides", "mozaic is not a training argument"),
        ({**SEMANTIC, "overrides": {"single_cls": True}}, "overrides", "single_cls=true does not go with"),
        ({"model": "yolo11n", "overrides": {"pretrained": True}}, "overrides", "pretrained=true has no"),
        ({"device": "0,1", "overrides": {"rect": True}}, "overrides", "rect=True does not work with 2 GPUs"),
        ({"device": "0,1", "time": 2.0}, "time", "time=2.0 does not work with 2 GPUs"),
        ({"device": "0,1", "batch": 5}, "batch", "batch=5 cannot be shared"),
        ({"task": "pose"}, "dataset", "dataset=None does not go with task='pose'"),
        ({"model": "yolo11n-seg"}, "model", "model='yolo11n-seg' is a model for segment"),
        ({"loss_spike": 3}, "loss_spike", "loss_spike=3 does nothing"),
        ({"roll_back_states": 2}, "roll_back_states", "roll_back_states=2 does nothing"),
        ({"roll_back_lr": 0.5}, "roll_back_lr", "roll_back_lr=0.5 does nothing"),
        ({"resume_from": "a", "job_id": "a"}, "resume_from", "resume_from='a' is this job itself"),
        ({"epoch": 3}, "epoch", "epoch is not a parameter"),
        ({"publish_interval": 5}, "publish_interval", "publish_interval=5 is no longer a parameter"),
    ],
)
def test_an_error_names_the_parameter_to_change(params: dict[str, Any], field: str, begins: str) -> None:
    ((found, sentence),) = TrainingSpec.find_problems(params).items()
    assert (found, sentence[: len(begins)]) == (field, begins)
    with pytest.raises(SpecError) as refusal:
        TrainingSpec.parse(params)
    assert (refusal.value.field, str(refusal.value)) == (field, sentence)


def test_the_first_of_several_errors_is_named() -> None:
    with pytest.raises(SpecError, match=r"^epochs=0 .* \(also wrong: batch, imgsz\)$") as refusal:
        TrainingSpec.parse({"imgsz": 8, "epochs": 0, "batch": 0})
    assert refusal.value.field == "epochs"


@pytest.mark.parametrize(
    ("parent", "given", "field"),
    [
        ({}, {"seed": 7}, "seed"),
        ({"device": "0,1"}, {}, "device"),
        ({"batch": 15}, {"device": "0,1"}, "batch"),
        ({"model": "yolo11n.pt"}, {"overrides": {"pretrained": False}}, "overrides"),
        ({"overrides": {"rect": True}}, {"device": "0,1"}, "overrides"),
    ],
)
def test_a_forbidden_change_names_the_parameter(
    parent: dict[str, Any], given: dict[str, Any], field: str
) -> None:
    with pytest.raises(SpecError) as refusal:
        TrainingSpec.parse({"resume_from": "p"} | given).inherit_from(
            TrainingSpec.parse(parent).with_defaults()
        )
    assert refusal.value.field == field

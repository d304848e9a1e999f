"""The gate: which challengers replace the champion, and the reasons for refusing the others."""

from __future__ import annotations

import math
import random

import pytest

from include.retraining.gate import METRICS, Decision, Gate, decide
from include.training.evaluate import Evaluation

METRIC = "metrics/mAP50-95(B)"


def reaches(value: float | None, **classes: float) -> Evaluation:
    return Evaluation({METRIC: value, "metrics/mAP50(B)": 0.9, "fitness": value}, classes)


@pytest.mark.parametrize(
    ("challenger", "champion", "gate", "passed"),
    [
        (reaches(0.5), reaches(0.4), Gate(), True),
        (reaches(0.4), reaches(0.4), Gate(), True),
        (reaches(0.39), reaches(0.4), Gate(), False),
        (reaches(0.39), reaches(0.4), Gate(minimum_gain=-0.02), True),
        (reaches(0.71), reaches(0.70), Gate(minimum_gain=0.01), True),
        (reaches(0.7099), reaches(0.70), Gate(minimum_gain=0.01), False),
        (reaches(0.1), None, Gate(), True),
        (reaches(0.0), None, Gate(), True),
        (reaches(0.1), None, Gate(minimum=0.2), False),
        (reaches(0.2), None, Gate(minimum=0.2), True),
        (reaches(0.5), reaches(0.1), Gate(minimum=0.6), False),
        (reaches(None), None, Gate(), False),
        (reaches(None), reaches(0.1), Gate(), False),
        (reaches(math.nan), reaches(0.1), Gate(minimum_gain=-1), False),
        (reaches(0.1), reaches(None), Gate(), True),
        (reaches(0.5), reaches(0.4), Gate(metric="metrics/mAP50(B)", minimum_gain=0.01), False),
        (reaches(0.5), reaches(0.4), Gate(metric="metrics/of another task"), False),
    ],
)
def test_the_metric_decides(
    challenger: Evaluation, champion: Evaluation | None, gate: Gate, passed: bool
) -> None:
    assert decide(challenger, champion, gate).passed is passed


@pytest.mark.parametrize(
    ("before", "after", "allowed", "passed"),
    [
        ({"cat": 0.5, "dog": 0.5}, {"cat": 0.9, "dog": 0.46}, 0.05, True),
        ({"cat": 0.5, "dog": 0.5}, {"cat": 0.9, "dog": 0.44}, 0.05, False),
        ({"cat": 0.5, "dog": 0.5}, {"cat": 0.9, "dog": 0.44}, None, True),
        ({"cat": 0.5, "dog": 0.5}, {"cat": 0.9, "dog": 0.45}, 0.05, True),
        ({"cat": 0.5}, {"cat": 0.5, "new": 0.0}, 0.0, True),
        ({"cat": 0.5, "gone": 0.3}, {"cat": 0.9}, 0.2, False),
        ({"cat": 0.5}, {"cat": math.nan}, 0.2, False),
        ({"cat": 0.0}, {"cat": 0.0}, 0.0, True),
    ],
)
def test_no_class_may_drop_by_more_than_the_gate_allows(
    before: dict[str, float], after: dict[str, float], allowed: float | None, passed: bool
) -> None:
    decision = decide(reaches(0.6, **after), reaches(0.5, **before), Gate(max_class_drop=allowed))
    assert decision.passed is passed


def test_a_refusal_names_numbers_and_classes() -> None:
    assert decide(reaches(0.41), reaches(0.4), Gate(minimum_gain=0.02)) == Decision(
        False, f"{METRIC} went from 0.4000 to 0.4100 (+0.0100), but the gate requires at least +0.0200"
    )
    fell = decide(
        reaches(0.6, cat=0.9, dog=0.1, cow=0.3),
        reaches(0.4, cat=0.2, dog=0.8, cow=0.4),
        Gate(max_class_drop=0),
    )
    assert "no class may drop by more than 0.0000: dog went from 0.8000 to 0.1000, cow" in fell.reason
    many = {f"class {number}": 0.5 for number in range(80)}
    assert "and 75 more" in decide(reaches(0.6), reaches(0.4, **many), Gate(max_class_drop=0.1)).reason


def _cases() -> list[tuple[dict[str, float], dict[str, float], Gate]]:
    """Random pairs of models of five classes, with random gates."""
    chance = random.Random(0)
    return [
        (
            {name: chance.random() for name in "abcde"},
            {name: chance.random() for name in "abcde"},
            Gate(
                minimum_gain=chance.uniform(-0.3, 0.3),
                max_class_drop=chance.choice([None, chance.random()]),
                minimum=chance.choice([None, chance.random() / 2]),
            ),
        )
        for _ in range(500)
    ]


def _mean(classes: dict[str, float]) -> Evaluation:
    return reaches(sum(classes.values()) / len(classes), **classes)


def test_a_better_challenger_or_a_milder_gate_never_turns_a_pass_into_a_refusal() -> None:
    passed = 0
    for after, before, gate in _cases():
        decision = decide(_mean(after), _mean(before), gate).passed
        passed += decision
        better = {name: min(1.0, value + 0.1) for name, value in after.items()}
        milder = gate.model_copy(
            update={
                "minimum_gain": max(-1.0, gate.minimum_gain - 0.1),
                "max_class_drop": None if gate.max_class_drop is None else gate.max_class_drop + 0.1,
                "minimum": None,
            }
        )
        if decision:
            assert decide(_mean(better), _mean(before), gate).passed, (after, before, gate)
            assert decide(_mean(after), _mean(before), milder).passed, (after, before, gate)
    assert 50 < passed < 450


def test_a_model_passes_against_itself_only_if_no_gain_is_required() -> None:
    for after, _, gate in _cases():
        free = gate.model_copy(update={"minimum": None})
        assert decide(_mean(after), _mean(after), free).passed is (gate.minimum_gain <= 0)


def test_every_task_has_the_metric_that_ultralytics_calls_fitness() -> None:
    assert all("fitness" in names and len(set(names)) == len(names) for names in METRICS.values())
    assert "metrics/mAP50-95(M)" in METRICS["segment"]
    assert "metrics/mAP50-95(P)" in METRICS["pose"]

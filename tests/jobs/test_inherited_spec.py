"""A job that continues another inherits its parameters; changes that a resume cannot make are refused."""

from __future__ import annotations

from typing import Any

import pytest

from include.jobs.spec import SpecError, TrainingSpec


def test_a_resumed_job_may_have_other_loss_rules_than_its_parent() -> None:
    parent = TrainingSpec.parse({"on_loss_spike": "roll back", "roll_back_states": 2}).with_defaults()
    child = TrainingSpec.parse({"resume_from": "p", "on_loss_spike": "warn"}).inherit_from(parent)
    assert (child.on_loss_spike, child.build_loss_rules().needs_states) == ("warn", False)
    assert TrainingSpec.parse({"resume_from": "p"}).inherit_from(parent).on_loss_spike == "roll back"


@pytest.mark.parametrize(
    ("before", "changed", "sentence"),
    [
        ({}, {"loss_spike": 3}, "loss_spike=3 does nothing while on_loss_spike is empty"),
        ({}, {"roll_back_states": 2}, "roll_back_states=2 does nothing without a rule that rolls back"),
        (
            {"on_nan": "roll back", "roll_back_lr": 0.1},
            {"on_nan": "stop", "roll_back_lr": 0.2},
            "roll_back_lr=0.2 does nothing without a rule that rolls back",
        ),
        (
            {"task": "semantic", "dataset": "/data"},
            {"overrides": {"single_cls": True}},
            "single_cls=true does not go with task='semantic'",
        ),
    ],
    ids=str,
)
def test_parameters_of_a_resumed_job_that_contradict_inherited_ones_are_refused(
    before: dict[str, Any], changed: dict[str, Any], sentence: str
) -> None:
    parent = TrainingSpec.parse(before).with_defaults()
    with pytest.raises(SpecError) as refusal:
        TrainingSpec.parse({"resume_from": "p", **changed}).inherit_from(parent)
    assert str(refusal.value).startswith(sentence)


def test_a_number_that_is_given_with_an_inherited_rule_is_accepted() -> None:
    parent = TrainingSpec.parse({"on_loss_spike": "roll back"}).with_defaults()
    given = {"loss_spike": 3.0, "roll_back_states": 2}
    rules = TrainingSpec.parse({"resume_from": "p", **given}).inherit_from(parent).build_loss_rules()
    assert (rules.factor, rules.states) == (3.0, 2)


def test_a_resumed_job_inherits_the_parameters_that_it_is_not_given() -> None:
    parent = TrainingSpec.parse(
        {
            "job_id": "p",
            "epochs": 10,
            "imgsz": 64,
            "seed": 3,
            "overrides": {"mosaic": 0.5},
            "keep_local": True,
        }
    ).with_defaults()
    child = TrainingSpec.parse(
        {"job_id": "c", "resume_from": "p", "epochs": 20, "overrides": {"close_mosaic": 0}}
    ).inherit_from(parent)
    assert (child.job_id, child.resume_from, child.epochs) == ("c", "p", 20)
    assert (child.imgsz, child.seed, child.model, child.dataset) == (64, 3, "yolo11n", "digits")
    assert child.overrides == {"mosaic": 0.5, "close_mosaic": 0}
    assert child.keep_local is False


@pytest.mark.parametrize("changed", [{"model": "yolo11s"}, {"dataset": "/other"}, {"seed": 7}])
def test_a_resumed_job_cannot_change_parameters_of_the_whole_training_run(changed: dict[str, Any]) -> None:
    parent = TrainingSpec.parse({"epochs": 10}).with_defaults()
    with pytest.raises(SpecError, match=f"{next(iter(changed))}=.* differs from"):
        TrainingSpec.parse({"resume_from": "p", **changed}).inherit_from(parent)


def test_a_resumed_job_may_have_another_learning_rate() -> None:
    parent = TrainingSpec.parse({"optimizer": "SGD", "lr0": 0.1}).with_defaults()
    assert TrainingSpec.parse({"resume_from": "p"}).inherit_from(parent).lr0 == 0.1
    assert TrainingSpec.parse({"resume_from": "p", "lr0": 0.01}).inherit_from(parent).lr0 == 0.01


@pytest.mark.parametrize(("given", "kept"), [(None, None), (0.1, None), (0.01, 0.01)])
def test_a_learning_rate_that_optimizer_auto_ignored_is_not_inherited(
    given: float | None, kept: float | None
) -> None:
    parent = TrainingSpec.parse({"lr0": 0.1}).with_defaults()
    assert TrainingSpec.parse({"resume_from": "p", "lr0": given}).inherit_from(parent).lr0 == kept


def test_pretrained_cannot_change_on_resume() -> None:
    parent = TrainingSpec.parse({"model": "yolo11n.pt", "overrides": {"pretrained": True}}).with_defaults()
    same = TrainingSpec.parse({"resume_from": "p", "overrides": {"pretrained": True}})
    assert same.inherit_from(parent).overrides == {"pretrained": True}
    other = TrainingSpec.parse({"resume_from": "p", "overrides": {"pretrained": False}})
    with pytest.raises(SpecError, match="pretrained=False has no effect on a resumed job"):
        other.inherit_from(parent)


def test_a_resumed_job_must_be_given_its_gpus() -> None:
    """The pool slots of a run are computed from the run's own parameters."""
    parent = TrainingSpec.parse({"device": "0,1", "batch": 8}).with_defaults()
    with pytest.raises(SpecError, match=r"device is missing: job p was .*; give device='0,1' again"):
        TrainingSpec.parse({"resume_from": "p"}).inherit_from(parent)
    for device in ("0", "2,3", "0,1,2,3"):
        child = TrainingSpec.parse({"resume_from": "p", "device": device}).inherit_from(parent)
        assert (child.device, child.batch) == (device, 8)


def test_gpus_share_the_batch_of_the_parent_job() -> None:
    parent = TrainingSpec.parse({"batch": 15}).with_defaults()
    child = TrainingSpec.parse({"resume_from": "p", "device": "0,1,2"})
    assert child.inherit_from(parent).batch == 15
    with pytest.raises(SpecError, match="batch=15 cannot be shared by 2 GPUs; use a multiple of 2"):
        TrainingSpec.parse({"resume_from": "p", "device": "0,1"}).inherit_from(parent)

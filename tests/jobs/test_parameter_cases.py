"""Parameters that once caused problems: each is now understood as intended, or refused immediately."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from include.jobs.parameters import DEFAULTS
from include.jobs.spec import SpecError, TrainingSpec
from include.orchestration.params import dag_params
from include.retraining.request import RetrainRequest
from include.training.arguments import read_known_arguments


def _accepts(params: dict[str, Any]) -> bool:
    """Return whether REST accepts the parameters, according to the schema of the form."""
    form = dag_params(TrainingSpec)
    return all(Draft202012Validator(form[name].schema).is_valid(value) for name, value in params.items())


@pytest.mark.parametrize("name", ["job_id", "resume_from", "task", "optimizer", "dataset", "model", "device"])
@pytest.mark.parametrize("blank", ["", "  "])
def test_rest_and_the_model_treat_a_blank_text_as_not_given(name: str, blank: str) -> None:
    if not (blank and name in {"task", "optimizer"}):  # for these two, only the empty text is a choice
        assert _accepts({name: blank})
    assert TrainingSpec.parse({name: blank}) == TrainingSpec()


@pytest.mark.parametrize("name", TrainingSpec.model_fields)
def test_rest_and_the_model_treat_null_as_not_given(name: str) -> None:
    assert _accepts({name: None})
    assert TrainingSpec.parse({name: None}) == TrainingSpec()


def test_a_retraining_treats_a_blank_text_as_not_given() -> None:
    assert RetrainRequest.parse({"plan": "p", "start_from": ""}) == RetrainRequest(plan="p")
    assert Draft202012Validator(dag_params(RetrainRequest)["start_from"].schema).is_valid("")


def test_an_unknown_key_is_refused_even_if_it_is_blank() -> None:
    with pytest.raises(SpecError, match="epoch is not a parameter of train_yolo"):
        TrainingSpec.parse({"epoch": ""})


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"epochs": 10.0}, {"epochs": 10}),
        ({"imgsz": 64.0, "workers": 0.0, "seed": 3.0}, {"imgsz": 64, "workers": 0, "seed": 3}),
        ({"patience": 5.0, "publish_every": 2.0}, {"patience": 5, "publish_every": 2}),
        ({"on_nan": "roll back", "roll_back_states": 2.0}, {"on_nan": "roll back", "roll_back_states": 2}),
        ({"device": 0}, {"device": "0"}),
        ({"device": 1.0}, {"device": "1"}),
    ],
)
def test_whole_floats_and_numeric_texts_are_accepted(given: dict[str, Any], meant: dict[str, Any]) -> None:
    assert _accepts(given)
    spec = TrainingSpec.parse(given)
    assert spec == TrainingSpec.parse(meant)
    assert {name: type(getattr(spec, name)) for name in meant} == {
        name: type(value) for name, value in meant.items()
    }


@pytest.mark.parametrize(
    "wrong", [{"epochs": 10.5}, {"epochs": True}, {"device": True}, {"device": -1}, {"epochs": 1e300}]
)
def test_a_value_that_is_not_a_whole_number_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match=f"^{next(iter(wrong))}="):
        TrainingSpec.parse(wrong)


def test_our_table_of_defaults_equals_that_of_ultralytics() -> None:
    from ultralytics.cfg import DEFAULT_CFG_DICT

    assert {name: DEFAULT_CFG_DICT[name] for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize("spelt_out", [{"seed": 0}, {"optimizer": "auto"}, {"seed": 0, "optimizer": "auto"}])
def test_a_default_may_be_given_explicitly_on_resume(spelt_out: dict[str, Any]) -> None:
    parent = TrainingSpec.parse({"epochs": 5}).with_defaults()
    TrainingSpec.parse({"resume_from": "p", **spelt_out}).inherit_from(parent)
    explicit = TrainingSpec.parse({"epochs": 5, **spelt_out}).with_defaults()
    assert TrainingSpec.parse({"resume_from": "p"}).inherit_from(explicit).seed == spelt_out.get("seed")


@pytest.mark.parametrize("other", [{"seed": 1}, {"optimizer": "SGD"}])
def test_a_refused_change_on_resume_does_not_mention_none(other: dict[str, Any]) -> None:
    parent = TrainingSpec.parse({"epochs": 5}).with_defaults()
    with pytest.raises(SpecError, match=r"differs from .* of job p, which this job continues") as refusal:
        TrainingSpec.parse({"resume_from": "p", **other}).inherit_from(parent)
    assert "None" not in str(refusal.value)


@pytest.mark.parametrize("spelt_out", [{name: value} for name, value in DEFAULTS.items()], ids=str)
def test_spelling_out_defaults_does_not_change_the_identity(spelt_out: dict[str, Any]) -> None:
    short, long = TrainingSpec.parse({}), TrainingSpec.parse(spelt_out)
    assert long.with_spelling_of(short).identity() == short.identity()
    assert short.with_spelling_of(long).identity() == long.identity()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            {"compile": "no-such-mode"},
            "compile='no-such-mode' is refused: it must be true or false, 'default'",
        ),
        ({"warmup_epochs": -5}, "warmup_epochs=-5 is refused: it must be 0 or more"),
        ({"box": -1}, "box=-1 is refused: it must be 0 or more"),
        ({"distill_model": "yolo11x.pt"}, "distill_model='yolo11x.pt' is refused: jobs do not read files"),
    ],
)
def test_overrides_that_would_fail_on_a_gpu_are_refused_beforehand(
    overrides: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(SpecError) as refusal:
        TrainingSpec.parse({"overrides": overrides})
    assert str(refusal.value).startswith(sentence)


def test_gains_and_durations_cannot_be_negative() -> None:
    least = {name: argument.get("minimum") for name, argument in read_known_arguments().items()}
    for name in ("box", "cls", "dfl", "pose", "kobj", "warmup_epochs", "time"):
        assert least[name] == 0, name
    assert least["degrees"] is None

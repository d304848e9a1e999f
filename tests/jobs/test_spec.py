"""TrainingSpec, the form made from it, and Airflow's REST API accept the same parameters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from include.jobs.parameters import DEFAULTS
from include.jobs.spec import SpecError, TrainingSpec
from include.orchestration.params import dag_params
from include.training.loss_rules import NO_RULES, Action, LossRules
from include.ultralytics_tasks import TASKS


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"epoch": 3}, "epoch is not a parameter of train_yolo"),
    "path traversal": ({"job_id": "../etc"}, "job_id='../etc' is refused. job_id: Name of the job"),
    "slash": ({"job_id": "a/b"}, "1 to 128 letters"),
    "job id too long": ({"job_id": "a" * 129}, "1 to 128 letters"),
    "trailing newline": ({"job_id": "job\n"}, "1 to 128 letters"),
    "leading dot": ({"job_id": ".hidden"}, "1 to 128 letters"),
    "no epochs": ({"epochs": 0}, "epochs=0"),
    "epochs as text": ({"epochs": "10"}, "epochs='10'"),
    "true is no number": ({"epochs": True}, "epochs=True"),
    "image too small": ({"imgsz": 16}, "imgsz=16"),
    "no batch": ({"batch": 0}, "batch=0"),
    "batch of one and a half": ({"batch": 1.5}, "batch=1.5"),
    "unknown task": ({"task": "count"}, "task='count'"),
    "unknown optimizer": ({"optimizer": "sgd"}, "optimizer='sgd'"),
    "unknown device": ({"device": "gpu0"}, "device='gpu0'"),
    "no list of devices": ({"device": "0,cpu"}, "device='0,cpu'"),
    "a GPU twice": ({"device": "1,1"}, "device='1,1' names a GPU twice"),
    "a batch that two GPUs cannot share": ({"device": "0,1", "batch": 5}, "batch=5 cannot be shared by 2"),
    "default batch for three GPUs": ({"device": "0,1,2"}, "batch=16 cannot be shared by 3 GPUs"),
    "rect on two GPUs": ({"device": "0,1", "overrides": {"rect": True}}, "rect=True does not work with 2"),
    "negative learning rate": ({"lr0": -0.1}, "lr0=-0.1"),
    "no time": ({"time": 0}, "time=0"),
    "a hang of five seconds": ({"hang_timeout": 5}, "hang_timeout=5 is refused"),
    "an unknown rule": (
        {"on_loss_spike": "retry"},
        "on_loss_spike='retry' is refused: input should be 'warn'",
    ),
    "a warning of NaN": (
        {"on_nan": "warn"},
        "on_nan='warn' is refused: input should be 'stop' or 'roll back'",
    ),
    "a spike below the others": (
        {"on_loss_spike": "stop", "loss_spike": 1},
        "loss_spike=1 is refused: input should be greater than 1",
    ),
    "a spike that no rule looks at": ({"loss_spike": 3}, "loss_spike=3 does nothing while on_loss_spike is"),
    "six states": ({"on_nan": "roll back", "roll_back_states": 6}, "roll_back_states=6 is refused"),
    "a rising learning rate": (
        {"on_nan": "roll back", "roll_back_lr": 1.5},
        "roll_back_lr=1.5 is refused",
    ),
    "states of no rollback": (
        {"on_loss_spike": "warn", "on_nan": "stop", "roll_back_states": 2},
        "roll_back_states=2 does nothing without a rule that rolls back; set on_loss_spike='roll back' or",
    ),
    "a rate of no rollback": ({"roll_back_lr": 0.1}, "roll_back_lr=0.1 does nothing without a rule"),
    "resume from a bad id": ({"resume_from": "../x"}, "resume_from='../x' is refused"),
    "resume from itself": ({"job_id": "a", "resume_from": "a"}, "is this job itself"),
    "unknown override": ({"overrides": {"mosiac": 0.5}}, "mosiac"),
    "override of ours": ({"overrides": {"save_dir": "/etc"}}, "save_dir"),
    "override of a parameter": ({"overrides": {"epochs": 3}}, "epochs is a separate parameter"),
    "override of a wrong kind": ({"overrides": {"mosaic": "much"}}, "mosaic"),
    "digits for segment": ({"task": "segment", "dataset": "digits"}, "bundled digits are for detect only"),
    "no data for pose": ({"task": "pose"}, "bundled digits are for detect only"),
    "model of another task": ({"model": "yolo11n-seg"}, "is a model for segment, but the task is detect"),
    "model without its suffix": (
        {"task": "obb", "model": "yolo11n", "dataset": "/data"},
        "such as 'yolo26n-obb.pt' (pretrained) or 'yolo26n-obb' (from scratch)",
    ),
    "a long dataset": ({"dataset": "s3://" + "a" * 1024}, "at most 1024 characters"),
    "a long model": ({"model": "a" * 1025}, "at most 1024 characters"),
    "a NUL in dataset": ({"dataset": "/data/\0"}, r"dataset='/data/\x00' contains a control character"),
    "a million GPUs": ({"device": ",".join(map(str, range(1000)))}, "device='0,1,2"),
    "a GPU of 5,000 digits": ({"device": "9" * 5000}, "device='999"),
    "a long unknown key": ({"a" * 100_000: 1}, "is not a parameter of train_yolo"),
    "many unknown keys": (dict.fromkeys(map(str, range(100_000))), "also wrong: 1, 10, 100, 1000, 10000,"),
    "batch of 400 digits": ({"batch": 10**400}, "batch=1000"),
    "epochs of 5,000 digits": ({"epochs": 10**5000}, "epochs=<int> is refused"),
    "override of 400 digits": (
        {"overrides": {"mosaic": 10**400}},
        "'mosaic' in overrides is a number of more",
    ),
    "override of many values": (
        {"overrides": {"classes": [1] * 1001}},
        "overrides has more than 1,000 values",
    ),
    "override that is nested": ({"overrides": {"classes": _nested(5000)}}, "overrides is nested more than 4"),
    "a long override": ({"overrides": {"tracker": "a" * 1025}}, "'tracker' in overrides has more than 1,024"),
    "a NUL in overrides": ({"overrides": {"copy_paste_mode": "\0"}}, "contains a control character"),
    "a long unknown override": (
        {"overrides": {"a" * 1025: 1}},
        "in overrides has more than 1,024 characters",
    ),
    "model elsewhere": ({"model": "https://example.org/x.pt"}, "cannot be fetched"),
    "model above a folder": (
        {"model": "s3://bucket/a/../x.pt"},
        "model='s3://bucket/a/../x.pt' contains '.' or '..' as a folder",
    ),
    "model YAML elsewhere": ({"model": "s3://bucket/model.yaml"}, "cannot be fetched"),
    "model YAML of a worker": ({"model": "/data/yolo11n.yaml"}, "jobs do not read files on a worker's disk"),
    "model by dots": ({"model": "../../yolo11n.yaml"}, "jobs do not read files on a worker's disk"),
    "model in the working directory": (
        {"model": "./yolo11n.yaml"},
        "jobs do not read files on a worker's disk",
    ),
    "model that is a data YAML": ({"model": "coco8.yaml"}, "is not an architecture that Ultralytics ships"),
    "weights of a worker": (
        {"model": "/data/../sam_b.pt"},
        "is a path, and jobs do not read files on a worker's disk; store",
    ),
    "mistyped model": ({"model": "yolov11n"}, "did you mean yolo11n? Otherwise give"),
    "segmenter that is no YOLO": (
        {"model": "sam_b.pt"},
        "model='sam_b.pt' is a kind of model that train_yolo does",
    ),
    "RT-DETR": ({"model": "rtdetr-l"}, "model='rtdetr-l' is an architecture that train_yolo does not train"),
    "RT-DETR on YOLOv8": ({"model": "yolov8n-rtdetr"}, "does not train (RT-DETR, YOLO-World"),
    "a size that does not exist": ({"model": "yolov3n"}, "is not an architecture that Ultralytics ships"),
    "pretrained weights of another task": (
        {"model": "yolo26s-seg.pt"},
        "model='yolo26s-seg.pt' is a model for segment, but the task is detect; give task='segment', or",
    ),
    "weights for a task that only YOLO26 has": (
        {"model": "yolo11n.pt", "task": "depth", "dataset": "/data"},
        "for detect, but the task is depth; give task='detect', or another model such as 'yolo26n-depth.pt'",
    ),
    "merged classes of pixels": (
        {"task": "semantic", "dataset": "/data", "overrides": {"single_cls": True}},
        "single_cls=true does not go with task='semantic'",
    ),
    "two factors for classify": (
        {"task": "classify", "dataset": "/data", "overrides": {"scale": [0.5, 1.5]}},
        "scale=[0.5, 1.5] does not go with task='classify'",
    ),
    "classes of a depth map": (
        {"task": "depth", "dataset": "/data", "overrides": {"classes": [0]}},
        "classes=[0] does not go with task='depth', which has no classes; omit it",
    ),
    "pretrained from scratch": (
        {"model": "yolo11n.yaml", "overrides": {"pretrained": True}},
        "model='yolo11n.yaml', which is trained from scratch; give model='yolo11n.pt'",
    ),
    "pretrained digits": ({"overrides": {"pretrained": True}}, "has no effect with model='yolo11n'"),
    "pretrained without published weights": (
        {"model": "yolov6n", "overrides": {"pretrained": True}},
        "give model='yolo26n.pt' to start from pretrained weights",
    ),
    "a job that is none": ({"model": "job:../x"}, "model='job:../x' does not name a job; write job:<job_id>"),
    "a version that is none": (
        {"model": "model:digits@latest"},
        "does not name a registered model; write model:",
    ),
    "version 0": ({"model": "model:digits@0"}, "does not name a registered model"),
}

ACCEPTED: list[dict[str, Any]] = [
    {},
    {"job_id": "a"},
    {"job_id": "A" * 128, "fresh": True},
    {"dataset": "s3://bucket/data.zip", "task": "segment", "model": "yolo11s-seg"},
    {"epochs": 10, "imgsz": 64, "batch": 16, "device": "0", "seed": 1, "patience": 0, "lr0": 0.001},
    {"batch": -1, "time": 0.5, "optimizer": "AdamW"},
    {"batch": 0.7, "device": "auto"},
    {"batch": 6, "device": "0,1,2"},
    {"overrides": {"mosaic": 0.0, "cos_lr": True}},
    {"resume_from": "earlier.job-1", "epochs": 20},
    {"dataset": None, "model": None, "keep_local": False},
    {"hang_timeout": 10},
    {"on_loss_spike": "warn", "loss_spike": 1.5, "on_nan": "stop"},
    {"on_nan": "roll back", "roll_back_states": 5, "roll_back_lr": 1},
    {"resume_from": "a", "roll_back_states": 2},
    {"model": "yolo11n.yaml"},
    {"model": "yolov8x-p6"},
    {"model": "yolov8s.yml"},
    {"model": "yolo11n.pt"},
    {"model": "yolo26s-seg.pt", "task": "segment", "dataset": "/data"},
    {"model": "company-base.pt"},
    {"model": "yolo11n.pt", "overrides": {"pretrained": True}},
    {"model": "yolo11n.pt", "overrides": {"pretrained": False}},
    {"dataset": "/data", "overrides": {"pretrained": True}},
    {"model": "job:earlier.job-1"},
    {"model": "model:digits"},
    {"model": "model:digits@3"},
    {"model": "s3://bucket/some/folder/x.pt"},
    {"overrides": {"pretrained": False, "compile": "default"}},
]


@pytest.mark.parametrize(("params", "part"), REFUSED.values(), ids=REFUSED.keys())
def test_parameters_that_cannot_be_trained_are_refused_with_one_sentence(
    params: dict[str, Any], part: str
) -> None:
    with pytest.raises(SpecError) as refusal:
        TrainingSpec.parse(params)
    assert part in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert len(str(refusal.value)) < 1000


@pytest.mark.parametrize("params", ACCEPTED, ids=json.dumps)
def test_the_schema_of_the_form_accepts_what_the_model_accepts(params: dict[str, Any]) -> None:
    TrainingSpec.parse(params)
    form = dag_params(TrainingSpec)
    for name, value in params.items():
        Draft202012Validator(form[name].schema).validate(value)


@pytest.mark.parametrize(
    "case",
    [
        "path traversal",
        "job id too long",
        "trailing newline",
        "no epochs",
        "epochs as text",
        "image too small",
        "unknown task",
        "unknown optimizer",
        "unknown device",
        "no list of devices",
        "negative learning rate",
        "no time",
        "an unknown rule",
        "a spike below the others",
        "six states",
        "a rising learning rate",
    ],
)
def test_a_value_out_of_range_is_also_refused_by_the_schema_of_the_form(case: str) -> None:
    params, _ = REFUSED[case]
    form = dag_params(TrainingSpec)
    assert any(not Draft202012Validator(form[name].schema).is_valid(value) for name, value in params.items())


def test_every_field_has_a_flat_schema_a_section_a_description_and_its_default() -> None:
    form = dag_params(TrainingSpec)
    assert list(form) == list(TrainingSpec.model_fields)
    for name, param in form.items():
        assert "anyOf" not in param.schema, name
        assert "$ref" not in json.dumps(param.schema), name
        assert param.schema["section"], name
        assert param.description, name
        assert param.value == TrainingSpec.model_fields[name].default, name


def test_the_schema_names_the_values_that_null_stands_for() -> None:
    form = dag_params(TrainingSpec)
    given = {name: param.schema.get("effective_default") for name, param in form.items()}
    assert {name: given[name] for name in DEFAULTS} == DEFAULTS
    rules = TrainingSpec.parse({}).build_loss_rules()
    assert (given["loss_spike"], given["roll_back_states"], given["roll_back_lr"]) == (
        rules.factor,
        rules.states,
        rules.rate,
    )
    filled = TrainingSpec.parse({}).with_defaults()
    assert (given["task"], given["dataset"]) == (filled.task, filled.dataset)
    for task, model in form["model"].schema["effective_default_by_task"].items():
        spec = TrainingSpec.parse({"task": task, "dataset": "/data"}).with_defaults()
        assert spec.model == model


def test_a_description_ends_with_the_value_that_null_stands_for() -> None:
    form = dag_params(TrainingSpec)
    assert form["epochs"].description == "Total number of epochs. Default: 100."
    assert form["epochs"].schema["about"] == "Total number of epochs."
    about = "Number of processes that load data."
    assert form["workers"].description == f"{about} Default: 8 on a GPU; always 0 on a CPU."
    assert "about" not in form["publish_every"].schema


def test_every_field_is_documented_as_the_form_describes_it() -> None:
    documentation = (Path(__file__).parents[2] / "docs" / "parameters.md").read_text(encoding="utf-8")
    for name, param in dag_params(TrainingSpec).items():
        assert f"| `{name}` | " in documentation, name
        assert f"| {param.description} |" in documentation, name


def test_the_unchanged_form_gives_the_default_spec() -> None:
    untouched = {name: param.value for name, param in dag_params(TrainingSpec).items()}
    assert TrainingSpec.parse(untouched) == TrainingSpec()


def test_the_defaults_fit_the_task() -> None:
    spec = TrainingSpec.parse({}).with_defaults()
    assert (spec.task, spec.model, spec.dataset) == ("detect", "yolo11n", "digits")
    spec = TrainingSpec.parse({"task": "pose", "dataset": "/data"}).with_defaults()
    assert (spec.model, spec.dataset) == ("yolo26n-pose.pt", "/data")


def test_the_default_model_is_that_of_ultralytics_for_the_task() -> None:
    from ultralytics.cfg import TASK2MODEL

    for task in TASKS:
        spec = TrainingSpec.parse({"task": task, "dataset": "s3://b/data.zip"}).with_defaults()
        assert spec.model == TASK2MODEL[task]


def test_a_resumed_job_keeps_the_default_model_of_an_earlier_version() -> None:
    begun = TrainingSpec.parse({"task": "pose", "dataset": "/data", "model": "yolo11n-pose"})
    again = TrainingSpec.parse({"task": "pose", "dataset": "/data"})
    assert again.with_spelling_of(begun).with_defaults().identity() == begun.with_defaults().identity()
    other = TrainingSpec.parse({"task": "pose", "dataset": "/data", "model": "yolo11s-pose"})
    assert again.with_spelling_of(other).with_defaults().model == "yolo26n-pose.pt"


def test_only_given_arguments_reach_ultralytics() -> None:
    assert TrainingSpec.parse({}).build_arguments() == {}
    spec = TrainingSpec.parse({"batch": 8.0, "lr0": 0.1, "epochs": 3, "overrides": {"mosaic": 0.0}})
    assert spec.build_arguments() == {"batch": 8, "lr0": 0.1, "mosaic": 0.0}
    assert isinstance(spec.build_arguments()["batch"], int)


@pytest.mark.parametrize("means", [{"hang_timeout": 600.0}, {"device": "0"}, {"keep_local": True}])
def test_parameters_that_change_no_result_are_not_part_of_the_identity(
    means: dict[str, Any],
) -> None:
    given = {"job_id": "a", "epochs": 3}
    assert (
        TrainingSpec.parse(given | means).identity() == TrainingSpec.parse(given).identity() == {"epochs": 3}
    )


def test_loss_rules_are_off_by_default_and_their_numbers_have_defaults() -> None:
    assert TrainingSpec.parse({}).build_loss_rules() == LossRules() == NO_RULES
    assert not NO_RULES.needs_losses
    given = {"on_loss_spike": "warn", "loss_spike": 3.0, "on_nan": "roll back", "roll_back_states": 2}
    assert TrainingSpec.parse(given).build_loss_rules() == LossRules(
        Action.WARN, Action.ROLL_BACK, factor=3.0, states=2, rate=0.5
    )
    assert TrainingSpec.parse({"on_nan": "roll back", "roll_back_lr": 0.1}).build_loss_rules().rate == 0.1

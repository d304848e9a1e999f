"""The file of retraining plans: valid plans, and the errors for wrong ones."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from include.request import RequestRefused
from include.retraining.gate import Gate
from include.retraining.plans import PLANS, PlanError, load_plans
from include.retraining.request import RetrainRequest
from tests.support.retrain_plans import GOOD, plan, written

ROOT = Path(__file__).parents[2]


def test_the_shipped_plan_is_valid_and_weekly_and_has_a_gate() -> None:
    plans = load_plans(PLANS)
    assert plans.errors == ()
    digits = plans.require("digits")
    assert digits.schedule is not None
    assert digits.schedule.cron == "0 3 * * 1"
    assert (digits.task, digits.dataset, digits.start_from) == ("detect", "digits", "champion")
    assert digits.gate.metric == "metrics/mAP50-95(B)"
    assert digits.gate.minimum_gain > 0


@pytest.mark.parametrize(
    ("task", "metric"),
    [("depth", "metrics/delta1"), ("segment", "metrics/mAP50-95(M)"), ("detect", "metrics/mAP50-95(B)")],
)
def test_the_metric_of_its_task_decides_unless_the_plan_names_another(
    task: str, metric: str, tmp_path: Path
) -> None:
    plan = GOOD | {"task": task, "dataset": "/data", "gate": {"minimum": 0.5}}
    assert load_plans(written(tmp_path, plan)).require("good").gate == Gate(metric=metric, minimum=0.5)
    plan["gate"] = {"metric": "fitness"}
    assert load_plans(written(tmp_path, plan)).require("good").gate.metric == "fitness"
    del plan["gate"]
    assert load_plans(written(tmp_path, plan)).require("good").gate.metric == metric


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "Bad Name"}, r"plan 'Bad Name': name='Bad Name' is refused: it must be 1 to 64 lower-case"),
        ({"name": 7}, r"plan 7: name=7 is refused: input should be a valid string"),
        ({"dataset": ""}, r"plan 'good': dataset='' is refused"),
        ({"dataset": "coco8.yaml"}, r"plan 'good': dataset='coco8.yaml' is not an absolute path"),
        ({"dataset": "s3://bucket/data.tar.gz"}, r"plan 'good': dataset=.* only .zip archives are supported"),
        ({"task": "segment"}, r"plan 'good': dataset='digits' does not go with task='segment'"),
        ({"task": "detection"}, r"plan 'good': task='detection' is refused"),
        ({"model": "yolo11n-seg"}, r"plan 'good': model='yolo11n-seg' is a model for segment"),
        ({"start_from": "last"}, r"plan 'good': start_from='last' is refused"),
        ({"parameters": {"epochs": 0}}, r"plan 'good': parameters.epochs=0 is refused"),
        ({"parameters": {"epoch": 5}}, r"plan 'good': parameters.epoch is not a parameter of train_yolo"),
        (
            {"parameters": {"my-epoch": 5}},
            r"plan 'good': parameters.my-epoch is not a parameter of train_yolo",
        ),
        (
            {"parameters": {"epochs": 5, "overrides": {"epochs": 1}}},
            r"plan 'good': parameters.overrides: epochs is a separate parameter",
        ),
        ({"parameters": {"overrides": 5}}, r"plan 'good': parameters.overrides: overrides=5 is refused"),
        ({"parameters": {"overrides": {"mozaic": 1}}}, r"mozaic is not a training argument .* mosaic"),
        ({"parameters": {"dataset": "digits"}}, r"parameters: dataset does not belong here: it is a field"),
        ({"parameters": {"job_id": "x"}}, r"parameters: job_id does not belong here: each run sets its own"),
        ({"parameters": {"lr0": "1e-3"}}, r"plan 'good': parameters.lr0='1e-3' is refused"),
        (
            {"schedule": {"cron": "0 3 * *"}},
            r"plan 'good': schedule.cron: '0 3 \* \*' is not a cron expression",
        ),
        ({"schedule": {"cron": "0 3 * * 9"}}, r"plan 'good': schedule.cron: '0 3 \* \* 9' is not a cron"),
        ({"schedule": {"cron": "0 0 31 4,6 *"}}, r"plan 'good': schedule.cron: '0 0 31 4,6 \*' never occurs"),
        ({"schedule": {"cron": "@sometimes"}}, r"plan 'good': schedule.cron: '@sometimes' is not a cron"),
        ({"schedule": {}}, r"plan 'good': schedule must contain cron or on_new_data"),
        ({"schedule": "weekly"}, r"plan 'good': schedule='weekly' is refused"),
        ({"timeout_hours": 0}, r"plan 'good': timeout_hours=0 is refused"),
        (
            {"gate": {"metric": "mAP"}},
            r"plan 'good': gate.metric='mAP' is not measured .* give one of metrics/",
        ),
        ({"gate": {"minimum_gain": "0.1"}}, r"plan 'good': gate.minimum_gain='0.1' is refused"),
        ({"gate": {"max_class_drop": -0.1}}, r"plan 'good': gate.max_class_drop=-0.1 is refused"),
        ({"gate": {"max_drop": 0.1}}, r"plan 'good': gate.max_drop is not a field"),
        ({"approval": "yes"}, r"plan 'good': approval='yes' is refused"),
        ({"aproval": True}, r"plan 'good': aproval is not a field of a plan; the fields are name, dataset"),
    ],
)
def test_an_error_names_its_plan_and_field(given: dict[str, Any], message: str, tmp_path: Path) -> None:
    plans = load_plans(written(tmp_path, GOOD | given))
    assert plans.valid == {}
    (error,) = plans.errors
    assert re.search(message, error), error


def test_a_wrong_plan_does_not_affect_others_and_all_its_errors_are_reported(tmp_path: Path) -> None:
    wrong = {"name": "wrong", "timeout_hours": -1, "approval": 1}
    plans = load_plans(written(tmp_path, wrong, GOOD, {"dataset": "digits"}, GOOD, "nonsense"))
    assert list(plans.valid) == ["good"]
    assert [error.split(":")[0] for error in plans.errors] == [
        "plan 'wrong'", "plan 'wrong'", "plan 'wrong'", "plan 3", "plan 'good'", "plan 5"
    ]  # fmt: skip
    assert {error.split()[2].partition("=")[0] for error in plans.errors[:3]} == {
        "dataset", "timeout_hours", "approval"
    }  # fmt: skip
    assert plans.require("good").name == "good"
    with pytest.raises(PlanError, match=r"plan 'wrong': dataset is missing.*correct it in"):
        plans.require("wrong")
    with pytest.raises(
        PlanError, match=r"^plan 'good': task='x' .*; plan 'good': an earlier plan .*; correct"
    ):
        load_plans(written(tmp_path, GOOD | {"task": "x"}, wrong, GOOD)).require("good")
    with pytest.raises(PlanError, match=r"plan='none' is not in .*; the valid plans there are: good"):
        plans.require("none")


@pytest.mark.parametrize(
    "content", ["plans: {", "- name: a", "plans:\n  digits: {}", "", "plans: []\nmore: 1"]
)
def test_a_malformed_file_is_an_error_and_raises_no_exception(content: str, tmp_path: Path) -> None:
    path = tmp_path / "plans.yaml"
    path.write_text(content, encoding="utf-8")
    plans = load_plans(path)
    assert plans.valid == {}
    assert len(plans.errors) == 1
    assert str(path) in plans.errors[0]


def test_a_missing_or_undecodable_file_is_an_error(tmp_path: Path) -> None:
    assert "cannot be read" in load_plans(tmp_path / "none.yaml").errors[0]
    (tmp_path / "plans.yaml").write_bytes(b"plans: [\xff]")
    assert "cannot be read" in load_plans(tmp_path / "plans.yaml").errors[0]


def test_the_fingerprint_covers_the_fields_that_change_the_result() -> None:
    same = plan().compute_fingerprint()
    assert plan(parameters={"epochs": 3, "device": "cpu", "workers": 2}).compute_fingerprint() == same
    assert (
        plan(gate={"minimum_gain": 0.1}, schedule={"cron": "@daily"}, name="other").compute_fingerprint()
        == same
    )
    assert plan(dataset="/data/digits", model="yolo11n").compute_fingerprint() == same
    assert plan(model="yolo11n").compute_fingerprint() == same  # which is the default
    others = [
        plan(parameters={"epochs": 4}),
        plan(parameters={"epochs": 3, "overrides": {"mosaic": 0.0}}),
        plan(model="yolo11s"),
        plan(start_from="scratch"),
    ]
    assert len({same, *(each.compute_fingerprint() for each in others)}) == 5


def test_a_run_may_override_its_plan() -> None:
    changed = RetrainRequest.parse(
        {"plan": "good", "parameters": {"imgsz": 64}, "start_from": "scratch", "approval": True}
    ).apply_to(plan())
    assert changed.parameters == {"epochs": 3, "imgsz": 64}
    assert (changed.start_from, changed.approval) == ("scratch", True)
    assert RetrainRequest.parse({"plan": "good"}).apply_to(plan()) == plan()


@pytest.mark.parametrize(
    ("conf", "message"),
    [
        ({}, "plan=.* is refused: field required"),
        ({"plan": "good", "epochs": 3}, "epochs is not a parameter of retrain_yolo; its parameters are plan"),
        ({"plan": "good", "force": "yes"}, "force='yes' is refused"),
        (
            {"plan": "good", "parameters": {"epochs": 0}},
            "plan='good' with this run's parameters: parameters.epochs=0",
        ),
        ({"plan": "good", "parameters": {"model": "yolo11s"}}, "parameters: model does not belong here"),
    ],
)
def test_an_invalid_request_to_a_run_is_named(conf: dict[str, Any], message: str) -> None:
    with pytest.raises((RequestRefused, PlanError), match=message):
        RetrainRequest.parse(conf).apply_to(plan())


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the Dags and errors that result from a file with good and bad plans."""
    folder = tmp_path_factory.mktemp("plans")
    plans = written(
        folder,
        GOOD | {"name": "on-demand"},
        GOOD | {"name": "by-time", "schedule": {"cron": "0 3 * * 1"}},
        GOOD | {"name": "by-data", "schedule": {"on_new_data": True}},
        GOOD | {"name": "by-both", "schedule": {"cron": "@daily", "on_new_data": True}},
        GOOD | {"name": "wrong", "schedule": {"cron": "daily"}, "timeout_hours": 0},
        GOOD | {"name": "wrong-too", "gate": {"metric": "mAP"}},
    )
    environment = os.environ | {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "PYTHONPATH": str(ROOT),
        "RETRAIN_PLANS": str(plans),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.parse_dags"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_wrong_plans_cause_one_import_error_that_names_them_and_their_fields(parsed: dict[str, Any]) -> None:
    ((file, error),) = parsed["errors"].items()
    assert Path(file).name == "retrain_plan_errors.py"
    for message in (
        "plan 'wrong': schedule.cron",
        "plan 'wrong': timeout_hours=0",
        "plan 'wrong-too': gate.metric",
    ):
        assert message in error, error
    assert "on-demand" not in error


def test_every_valid_plan_with_a_schedule_has_its_own_paused_dag(parsed: dict[str, Any]) -> None:
    dags = {dag_id: each["dag"] for dag_id, each in parsed["dags"].items() if "retrain" in dag_id}
    assert set(dags) == {"retrain_yolo", *(f"retrain_yolo__by-{when}" for when in ("time", "data", "both"))}
    assert dags["retrain_yolo"]["is_paused_upon_creation"] is False
    timetables = {}
    for dag_id, dag in dags.items():
        timetables[dag_id.rpartition("__")[2]] = json.dumps(dag["timetable"])
        if dag_id != "retrain_yolo":
            assert dag["is_paused_upon_creation"] is True
            assert dag["max_active_runs"] == 1
    assert "NullTimetable" in timetables["retrain_yolo"]
    assert "CronTrigger" in timetables["by-time"]
    assert "training-dataset" not in timetables["by-time"]
    assert "training-dataset" in timetables["by-data"]
    assert "CronTrigger" not in timetables["by-data"]
    assert "CronTrigger" in timetables["by-both"]
    assert "training-dataset" in timetables["by-both"]

"""Every Dag parses without the trainer's packages, has an owner, and is the same at each parse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2 import Environment, StrictUndefined

from include.orchestration.typed_task import manifest_of

ROOT = Path(__file__).parents[2]

SCHEDULED = {"audit_checkpoints", "retrain_yolo__digits", "watch_dataset"}
"""The Dags with a schedule; two of them are created paused."""

FILE = {"path": "weights/last.pt", "sha256": "0" * 64, "size": 1, "epoch": 2}
MANIFEST = {
    "job_id": "a",
    "run_id": "manual__1",
    "origin_run_id": "manual__1",
    "best": FILE,
    "last": FILE,
    "epoch": 2,
    "epochs": 3,
    "start_epoch": 0,
    "metrics": {"metrics/mAP50(B)": 0.5},
    "fitness": 0.5,
    "stop_reason": "completed",
    "seconds": 1.0,
    "device": "cpu",
    "ultralytics_version": "8.4",
    "keep_local": False,
}
"""The result of `train` in an earlier version: its file entries have no `batch`."""


def _parse(airflow_home: Path, hash_seed: str) -> dict[str, Any]:
    environment = os.environ | {
        "AIRFLOW_HOME": str(airflow_home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "PYTHONHASHSEED": hash_seed,
        "PYTHONPATH": str(ROOT),
        "RETRAIN_PLANS": "",  # the shipped plans
    }
    parsed = subprocess.run(
        [sys.executable, "-m", "tests.support.parse_dags"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert parsed.returncode == 0, parsed.stderr
    result: dict[str, Any] = json.loads(parsed.stdout.splitlines()[-1])
    return result


@pytest.fixture(scope="module")
def parsed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return _parse(tmp_path_factory.mktemp("airflow"), "1")


@pytest.fixture(scope="module")
def dags(parsed: dict[str, Any]) -> dict[str, Any]:
    return {dag_id: serialized["dag"] for dag_id, serialized in parsed["dags"].items()}


def _tasks(dag: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Each task by its id; a mapped task includes the arguments that all its instances get."""
    tasks = [task["__var"].get("partial_kwargs", {}) | task["__var"] for task in dag["tasks"]]
    return {task["task_id"]: dag["default_args"]["__var"] | task for task in tasks}


def _recorded(dags: dict[str, Any], parameter: str, manifest: dict[str, Any]) -> str:
    """Return the value that `record_checkpoints` gets for the parameter if `train` returns the manifest."""
    templates = _tasks(dags["train_yolo"])["record_checkpoints"]["parameters"]
    template = Environment(undefined=StrictUndefined).from_string(templates[parameter])  # noqa: S701
    ti = SimpleNamespace(xcom_pull=lambda *, task_ids: {"train": manifest}[task_ids])
    return template.render(ti=ti, manifest_of=manifest_of)


def test_every_dag_parses_without_the_trainers_packages(parsed: dict[str, Any]) -> None:
    assert parsed["errors"] == {}
    on_demand = {
        "delete_data",
        "migrate_schema",
        "promote_model",
        "register_dataset",
        "retrain_yolo",
        "train_yolo",
    }
    assert set(parsed["dags"]) == on_demand | SCHEDULED


def test_a_manifest_of_an_earlier_version_is_recorded(dags: dict[str, Any]) -> None:
    """Such a manifest has no batches, and an upgrade can fall between `train` and `record_checkpoints`."""
    for last, batch in ((FILE, "0"), (FILE | {"batch": 7}, "7")):
        assert _recorded(dags, "batch", MANIFEST | {"last": last}) == batch


@pytest.mark.parametrize(
    ("stop_reason", "status"),
    [
        ("completed", "completed"),
        ("early_stopping", "completed"),
        ("time_budget", "completed"),
        ("stopped", "stopped"),
    ],
)
def test_only_a_training_run_that_a_user_stopped_is_recorded_as_stopped(
    stop_reason: str, status: str, dags: dict[str, Any]
) -> None:
    assert _recorded(dags, "status", MANIFEST | {"stop_reason": stop_reason}) == status


def test_a_dag_is_the_same_at_each_parse(parsed: dict[str, Any], tmp_path: Path) -> None:
    assert _parse(tmp_path, "2")["dags"] == parsed["dags"]


def test_every_dag_has_tags_and_documentation_and_only_listed_dags_have_a_schedule(
    dags: dict[str, Any],
) -> None:
    for dag_id, dag in dags.items():
        assert dag["tags"], dag_id
        assert len(dag["doc_md"]) > 200, dag_id
        by_itself = not dag["timetable"]["__type"].endswith("NullTimetable")
        assert by_itself is (dag_id in SCHEDULED), dag_id


def test_every_task_has_an_owner_documentation_and_enough_retries(dags: dict[str, Any]) -> None:
    for dag_id, dag in dags.items():
        for task_id, task in _tasks(dag).items():
            assert task["owner"] == "training", (dag_id, task_id)
            assert task["retries"] == (1000 if task_id == "train" else 50), (dag_id, task_id)
            assert task["has_retry_policy"] is True, (dag_id, task_id)
            assert task["doc_md"], (dag_id, task_id)


def test_every_task_runs_on_the_queue_whose_workers_meet_its_needs(
    dags: dict[str, Any],
) -> None:
    deleting = {("audit_checkpoints", "audit"), ("audit_checkpoints", "retain"), ("delete_data", "delete")}
    for dag_id, dag in dags.items():
        for task_id, task in _tasks(dag).items():
            place = (task.get("pool", "default_pool"), task.get("queue", "default"))
            if task_id in {"train", "evaluate"}:
                assert place == ("gpu", "gpu"), (dag_id, task_id)
            elif (dag_id, task_id) in deleting:
                assert place == ("default_pool", "maintenance"), (dag_id, task_id)
            else:
                queue = "migrate" if dag_id == "migrate_schema" else "default"
                queue = "promote" if task_id == "promote" else queue
                assert place == ("default_pool", queue), (dag_id, task_id)


def test_the_tasks_run_in_the_intended_order(dags: dict[str, Any]) -> None:
    after = {
        name: set(task.get("downstream_task_ids", [])) for name, task in _tasks(dags["train_yolo"]).items()
    }
    assert after == {
        "check_schema": {"resolve_config"},
        "resolve_config": {"check_dataset", "train", "notify_backend"},
        "check_dataset": {"train"},
        "train": {"upload_best", "upload_last"},
        "upload_best": {"record_checkpoints"},
        "upload_last": {"record_checkpoints"},
        "record_checkpoints": {"notify_backend"},
        "notify_backend": set(),
    }
    migrate = {n: set(t.get("downstream_task_ids", [])) for n, t in _tasks(dags["migrate_schema"]).items()}
    assert list(migrate) == ["plan", "apply", "verify"]
    assert "apply" in migrate["plan"]
    assert "verify" in migrate["apply"]
    promote = {n: set(t.get("downstream_task_ids", [])) for n, t in _tasks(dags["promote_model"]).items()}
    assert promote == {"check_schema": {"choose_version"}, "choose_version": {"promote"}, "promote": set()}
    register = {n: set(t.get("downstream_task_ids", [])) for n, t in _tasks(dags["register_dataset"]).items()}
    assert register == {
        "check_schema": {"check_dataset"},
        "check_dataset": {"record_version"},
        "record_version": {"announce"},
        "announce": set(),
    }


@pytest.mark.parametrize("dag_id", ["promote_model", "retrain_yolo", "retrain_yolo__digits"])
def test_a_promotion_emits_an_asset_event(dag_id: str, dags: dict[str, Any]) -> None:
    (outlet,) = _tasks(dags[dag_id])["promote"]["outlets"]
    assert outlet["__var"]["name"] == "production-model"


@pytest.mark.parametrize("dag_id", ["register_dataset", "watch_dataset"])
def test_changed_data_emit_an_asset_event(dag_id: str, dags: dict[str, Any]) -> None:
    (outlet,) = _tasks(dags[dag_id])["announce"]["outlets"]
    assert outlet["__var"]["name"] == "training-dataset"


def test_no_training_is_scheduled_until_its_dag_is_unpaused(dags: dict[str, Any]) -> None:
    for dag_id in ("retrain_yolo__digits", "watch_dataset"):
        assert dags[dag_id]["is_paused_upon_creation"] is True
    for dag_id in ("retrain_yolo", "register_dataset"):
        assert dags[dag_id]["is_paused_upon_creation"] is False


def test_retraining_waits_for_its_training_run_and_for_the_gate(dags: dict[str, Any]) -> None:
    for dag_id in ("retrain_yolo", "retrain_yolo__digits"):
        after = {
            name: set(task.get("downstream_task_ids", [])) for name, task in _tasks(dags[dag_id]).items()
        }
        assert after["challenge_champion"] == {"trigger_training", "wait_for_training", "evaluate", "judge"}
        assert after["trigger_training"] == {"wait_for_training"}
        assert after["wait_for_training"] == {"evaluate"}
        assert after["evaluate"] == {"judge"}
        assert after["judge"] == {"ask_approval", "promote"}
        assert after["ask_approval"] == {"promote"}


def test_the_audit_is_scheduled_and_runs_before_retention(dags: dict[str, Any]) -> None:
    assert dags["audit_checkpoints"]["is_paused_upon_creation"] is False
    tasks = _tasks(dags["audit_checkpoints"])
    after = {name: set(task.get("downstream_task_ids", [])) for name, task in tasks.items()}
    assert after == {"check_schema": {"audit"}, "audit": {"retain"}, "retain": set()}


def test_train_yolo_is_created_unpaused_and_several_jobs_may_run(dags: dict[str, Any]) -> None:
    assert dags["train_yolo"]["is_paused_upon_creation"] is False
    assert dags["train_yolo"]["max_active_runs"] >= 100_000
    assert dags["train_yolo"]["has_on_failure_callback"] is True

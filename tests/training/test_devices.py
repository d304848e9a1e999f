"""The GPUs of a training run: their choice, arguments that work on several GPUs, and their pool slots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import requests
import torch

from include.training.contract import DeviceNotAvailable, TrainingRequest
from include.training.devices import check_multi_gpu, choose_device, count_devices
from include.training.plan import TrainingPlan
from include.training.resume import RestoredState
from tests.support.waiting import until


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that this machine has four GPUs."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize(
    ("given", "chosen"), [("0,1", "0,1"), ("cuda:2,0", "2,0"), ("cuda", "0"), ("03", "3"), (None, "0")]
)
def test_gpus_are_chosen_by_number(given: str | None, chosen: str) -> None:
    assert choose_device(given) == chosen


@pytest.mark.usefixtures("four_gpus")
@pytest.mark.parametrize("given", ["0,4", "4", "1,1", "0,", "0,cpu"])
def test_a_request_for_missing_gpus_is_refused(given: str) -> None:
    with pytest.raises(DeviceNotAvailable, match=rf"device={given} .* 4 GPUs, numbered 0 to 3; give one of"):
        choose_device(given)


@pytest.mark.parametrize(
    ("gpus", "arguments", "part"),
    [
        (3, {}, "batch=16 cannot be shared by 3 GPUs; use a multiple of 3, such as 24"),
        (2, {"batch": 5}, "batch=5 cannot be shared"),
        (2, {"batch": -1}, "batch=-1 cannot be shared"),
        (2, {"batch": 0.7}, "batch=0.7 cannot be shared"),
        (2, {"time": 0.5}, "time=0.5 does not work with 2 GPUs"),
    ],
)
def test_arguments_that_do_not_work_with_several_gpus_are_refused(
    gpus: int, arguments: dict[str, Any], part: str
) -> None:
    with pytest.raises(ValueError, match=part):
        check_multi_gpu(gpus, arguments)
    check_multi_gpu(1, arguments)


@pytest.mark.parametrize("stopped", [False, True])
def test_an_attempt_that_only_validates_takes_one_gpu(stopped: bool, tmp_path: Path) -> None:
    restored = RestoredState(
        tmp_path / "resumed.pt",
        best_epoch=0,
        is_within_epoch=False,
        has_ended=not stopped,
        was_stopped=stopped,
        fits_memory_of=None,
        inexact_reason=None,
        changed=(),
    )
    training_request = TrainingRequest(
        "detect", "yolo11n", tmp_path / "data.yaml", tmp_path / "run", device="2,3"
    )
    assert count_devices(TrainingPlan(training_request, {}).device) == 2
    assert TrainingPlan(training_request, {}, restored).device == "2"


class Api:
    """Airflow's REST API below /dags/train_yolo."""

    def __init__(self, stack: Any) -> None:
        self._url = f"{stack.url}/api/v2/dags/train_yolo"
        login = {"username": stack.username, "password": stack.password}
        token = requests.post(f"{stack.url}/auth/token", json=login, timeout=60).json()["access_token"]
        self._headers = {"Authorization": f"Bearer {token}"}

    def get(self, path: str) -> dict[str, Any]:
        return self._json(requests.get(self._url + path, headers=self._headers, timeout=60))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._json(requests.post(self._url + path, json=body, headers=self._headers, timeout=60))

    def _json(self, response: requests.Response) -> dict[str, Any]:
        assert response.ok, response.text
        answer: dict[str, Any] = response.json()
        return answer


def slots(api: Api, run_id: str) -> dict[str, int]:
    tasks = ("train", "resolve_config")
    return {task: api.get(f"/dagRuns/{run_id}/taskInstances/{task}")["pool_slots"] for task in tasks}


@pytest.mark.timeout(600)
def test_a_run_takes_a_slot_of_the_pool_for_each_gpu(airflow_stack: Any) -> None:
    """resolve_config refuses this run, so train never starts, but the slots of train are already set."""
    api = Api(airflow_stack)
    run = api.post("/dagRuns", {"logical_date": None, "conf": {"device": "0,1,3", "nonsense": True}})
    run_id = run["dag_run_id"]
    until(
        lambda: api.get(f"/dagRuns/{run_id}")["state"] not in {"queued", "running"}, "the run's end", 500, 0.2
    )
    assert api.get(f"/dagRuns/{run_id}")["state"] == "failed"
    assert slots(api, run_id) == {"train": 3, "resolve_config": 1}
    cleared = {"dag_run_id": run_id, "task_ids": ["train"], "dry_run": False, "only_failed": False}
    api.post("/clearTaskInstances", cleared)
    assert slots(api, run_id) == {"train": 3, "resolve_config": 1}

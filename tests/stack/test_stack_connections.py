"""Which processes and tasks of the local stack get which connections."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing import SimpleQueue
from pathlib import Path
from urllib.request import proxy_bypass

import psutil
import pytest
from airflow.executors.workloads import ExecutorWorkload

from include.deployment.settings import MODEL_SIGNING_KEY, PROMOTION_QUEUE
from include.stack.airflow import PARTS
from include.stack.executor import PreparedTasks
from include.stack.local import Stack
from include.stack.preloading import OwnModules
from include.training import gpus
from tests.support.workloads import task_workload

OWNER = "AIRFLOW_CONN_TRAINING_DB_OWNER"


def test_a_worker_gives_a_task_the_connections_of_its_queue_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_TRAINING_DB", "everybody's")
    waiting: SimpleQueue[ExecutorWorkload | None] = SimpleQueue()
    by_queue = {"migrate": {OWNER: "the owner's"}, "maintenance": {"OTHER": "x"}}
    connections = PreparedTasks(waiting, by_queue, OwnModules(()))
    got = []
    for queue in ("default", "migrate", "maintenance", "migrate", "gpu"):
        waiting.put(task_workload(queue))
        assert connections.get()
        assert os.environ["AIRFLOW_CONN_TRAINING_DB"] == "everybody's"
        got.append((os.environ.get(OWNER), os.environ.get("OTHER")))
    waiting.put(None)
    assert connections.get() is None
    owner = ("the owner's", None)
    assert got == [(None, None), owner, (None, "x"), owner, (None, None)]
    assert OWNER not in os.environ


def test_only_tasks_that_promote_have_the_key_that_signs_models(tmp_path: Path) -> None:
    given = Stack.at(tmp_path / "stack").airflow.connections
    assert [queue for queue, found in given.queues.items() if MODEL_SIGNING_KEY in found] == [PROMOTION_QUEUE]
    assert [part for part, found in given.parts.items() if MODEL_SIGNING_KEY in found] == []


def test_the_stack_trains_on_the_cpu_only_where_there_is_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpus, "list_gpus", list)
    monkeypatch.delenv(gpus.VISIBLE, raising=False)
    for has_hardware, cpu_worker in {False: "true", True: "false"}.items():
        monkeypatch.setattr(gpus, "has_hardware", lambda found=has_hardware: found)
        stack = Stack.at(tmp_path / "stack")
        assert stack.airflow.variables["CPU_WORKER"] == cpu_worker


@pytest.mark.parametrize("name", ["ALL_PROXY", "all_proxy", "https_proxy"])
def test_tasks_reach_airflow_although_the_internet_is_behind_a_socks_proxy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "socks5h://127.0.0.1:9")
    environment = Stack.at(tmp_path / "stack").airflow.build_environment("scheduler")
    # Airflow's client, through which a task's supervisor reports, is an httpx.Client.
    subprocess.run([sys.executable, "-c", "import httpx; httpx.Client()"], env=environment, check=True)


@pytest.mark.parametrize(
    ("given", "others"),
    [
        (None, []),
        ("intranet.example,10.0.0.0/8", ["intranet.example"]),
        ("*", ["intranet.example", "pypi.org"]),
    ],
)
def test_hosts_that_need_no_proxy_are_those_of_the_stack_and_those_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, others: list[str]
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    if given:
        monkeypatch.setenv("NO_PROXY", given)
    monkeypatch.setattr(os, "environ", Stack.at(tmp_path / "stack").airflow.build_environment("scheduler"))
    bypassing = [host for host in ("127.0.0.1", "intranet.example", "pypi.org") if proxy_bypass(host)]
    assert bypassing == ["127.0.0.1", *others]


def test_only_the_scheduler_whose_executor_runs_the_tasks_has_the_owners_password(
    airflow_stack: Stack,
) -> None:
    assert set(airflow_stack.airflow.connections.parts) == set(PARTS)
    holders = set()
    for name in PARTS:
        pid = int((airflow_stack.state.path / "pids" / f"{name}.pid").read_text().split()[0])
        environment = psutil.Process(pid).environ()
        assert OWNER not in environment, name
        if any(OWNER in value for value in environment.values()):
            holders.add(name)
    assert holders == {"scheduler"}

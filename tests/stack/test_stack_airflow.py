"""Airflow as the local stack runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path

import psutil
import pytest
import requests

from include.stack import processes
from include.stack.airflow import OTHER_TASKS, PARTS, Airflow
from include.stack.airflow_api import AirflowApi
from include.stack.errors import StackError
from include.stack.gpus import count_gpu_slots
from include.stack.local import Stack
from include.stack.ports import LOOPBACK
from include.stack.preloading import preload
from include.stack.processes import Service
from tests.support.stacks import processes_of
from tests.support.strangers import as_stranger, readable_by_others
from tests.support.waiting import until

pytestmark = pytest.mark.timeout(600)  # two tests wait for a killed scheduler


def _command_line(process: psutil.Process) -> str:
    """Return the command line, or "" if the process has ended meanwhile, as tasks often have."""
    with suppress(psutil.NoSuchProcess):
        return " ".join(process.cmdline())
    return ""


def _listening(process: psutil.Process) -> set[str]:
    """Return the addresses on which the process listens, or none if they are hidden.

    Airflow hides its task processes from everybody except root.
    """
    try:
        sockets = process.net_connections("inet")
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return set()
    return {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}


def test_airflow_reads_its_settings_in_a_folder_with_unusual_characters(tmp_path: Path) -> None:
    airflow = Stack.at(tmp_path / "feature%2Fname 숫자").airflow
    airflow.configure()
    command = (airflow.program, "config", "get-value", "logging", "base_log_folder")
    got = subprocess.run(command, env=airflow.environment, capture_output=True, text=True, check=True)
    assert got.stdout.splitlines()[-1] == str(airflow.home / "logs")


def test_every_process_listens_on_the_loopback_interface_only(airflow_stack: Stack) -> None:
    listening = set().union(*map(_listening, processes_of(airflow_stack)))
    assert listening == {LOOPBACK}


OPEN_TO_ANYONE = {
    "/api/v2/auth/login": "redirects to the login page",
    "/api/v2/auth/logout": "redirects to the login page, and ends the session",
    "/api/v2/monitor/health": "tells load balancers whether the components of Airflow are healthy",
    "/api/v2/version": "tells load balancers that the server answers, and its version",
}
"""The paths that the API server serves without a login, each with the reason."""


def test_the_api_server_refuses_requests_without_a_login(airflow_stack: Stack) -> None:
    server = airflow_stack.url
    paths = requests.get(f"{server}/openapi.json", timeout=30).json()["paths"]
    readable = [path for path, methods in paths.items() if "get" in methods]
    urls = {path: re.sub(r"\{\w+\}", "1", path) for path in readable if path.startswith("/api/")}

    def ask() -> dict[str, int]:
        return {path: requests.get(f"{server}{url}", timeout=30).status_code for path, url in urls.items()}

    answers = as_stranger(ask)
    assert len(answers) > 50
    assert {path for path, status in answers.items() if status not in {401, 403}} == set(OPEN_TO_ANYONE)


def test_no_file_of_airflow_can_be_read_by_others(airflow_stack: Stack) -> None:
    assert not list(readable_by_others(airflow_stack.state.path))


def test_no_command_line_of_airflow_shows_a_secret(airflow_stack: Stack) -> None:
    command_lines = "\n".join(map(_command_line, processes_of(airflow_stack)))
    assert "airflow" in command_lines
    secrets = [value for name, value in asdict(airflow_stack.credentials).items() if name != "identity"]
    assert not [secret for secret in secrets if secret in command_lines]


def test_no_service_logs_a_secret(airflow_stack: Stack) -> None:
    logs = "\n".join(log.read_text() for log in (airflow_stack.state.path / "logs").iterdir())
    secrets = [value for name, value in asdict(airflow_stack.credentials).items() if name != "identity"]
    assert not [secret for secret in secrets if secret in logs]


def test_a_wrong_password_is_refused(airflow_stack: Stack) -> None:
    stranger = AirflowApi(airflow_stack.url, airflow_stack.username, "wrong")
    with pytest.raises(StackError, match="refuses the login of 'admin'"):
        stranger.get_run_state("train_yolo", "any")


def test_a_missing_dag_is_named(airflow_stack: Stack) -> None:
    with pytest.raises(StackError, match=r"did not load the Dag nowhere from dags/nowhere\.py"):
        airflow_stack.api.wait_for_dag("nowhere", seconds=0)


LIKE_THE_SCHEDULER = """
import os, signal, sys, time
from pathlib import Path

if os.fork():
    signal.signal(signal.SIGTERM, lambda *_: None)
    os.wait()
else:
    def drain(number, frame):
        time.sleep(0.5)
        Path("drained").touch()
        os._exit(0)
    signal.signal(signal.SIGTERM, drain)
    Path("training").touch()
    time.sleep(60)
"""
"""A program that ends when its child ends, and does not pass signals on to the child."""


@pytest.mark.parametrize("stops_children", [True, False])
def test_the_children_of_a_stopped_service_may_drain_if_it_is_configured_so(
    tmp_path: Path, *, stops_children: bool
) -> None:
    service = Service(
        name="like-the-scheduler",
        command=(sys.executable, "-c", LIKE_THE_SCHEDULER),
        environment=os.environ,
        directory=tmp_path,
        state=tmp_path,
        stop_seconds=30.0,
        stops_children=stops_children,
    )
    processes.start(service)
    processes.wait_until_ready(service, (tmp_path / "training").exists, 30)

    assert processes.stop(service if stops_children else replace(service, stop_seconds=1.0))

    assert (tmp_path / "drained").exists() == stops_children
    assert processes.find_process(service) is None


def test_a_killed_scheduler_restarts_without_its_old_workers(airflow_stack: Stack) -> None:
    service = _scheduler_service(airflow_stack)
    scheduler = _ready_scheduler(airflow_stack)
    workers = scheduler.children(recursive=True)
    scheduler.kill()
    until(lambda: processes.find_process(service) not in {None, scheduler})
    assert [each for each in workers if not processes.has_ended(each)] == []
    until(lambda: len(_processes_of(service)) > OTHER_TASKS + count_gpu_slots())


def test_a_task_begins_with_its_modules_imported(airflow_stack: Stack) -> None:
    workers = _workers(_ready_scheduler(airflow_stack))
    loaded = {Path(region.path).name for worker in workers for region in worker.memory_maps()}
    assert "libtorch_python.so" in loaded


def test_a_module_that_cannot_be_preloaded_is_left_to_its_task(caplog: pytest.LogCaptureFixture) -> None:
    preload("include.nothing")
    assert "include.nothing could not be imported before tasks start." in caplog.text


def test_starting_a_running_airflow_restarts_nothing_and_waits_until_it_is_healthy(
    airflow_stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [processes.find_process(service) for service in airflow_stack.airflow.services]
    is_healthy, healthy = Airflow._is_healthy, set()

    def note(airflow: Airflow, part: str) -> bool:
        if answer := is_healthy(airflow, part):
            healthy.add(part)
        return answer

    monkeypatch.setattr(Airflow, "_is_healthy", note)
    assert not airflow_stack.airflow.start()
    assert healthy == set(PARTS)
    assert [processes.find_process(service) for service in airflow_stack.airflow.services] == before


def _scheduler_service(stack: Stack) -> Service:
    return next(each for each in stack.airflow.services if each.name == "scheduler")


def _ready_scheduler(stack: Stack) -> psutil.Process:
    """Return the scheduler once it has started its workers; its health check succeeds even earlier."""
    scheduler = processes.find_process(_scheduler_service(stack))
    assert scheduler is not None
    until(lambda: len(_workers(scheduler)) == OTHER_TASKS + count_gpu_slots())
    return scheduler


def _workers(scheduler: psutil.Process) -> list[psutil.Process]:
    return [each for each in scheduler.children() if "LocalExecutor" in _command_line(each)]


def _processes_of(service: Service) -> list[psutil.Process]:
    process = processes.find_process(service)
    return [process, *process.children(recursive=True)] if process else []

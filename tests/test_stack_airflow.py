"""Airflow as the local stack runs it."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import psutil
import pytest

from include.stack.airflow_api import AirflowApi
from include.stack.errors import StackError
from include.stack.ports import LOOPBACK

if TYPE_CHECKING:
    from include.stack.local import Stack


def _processes(stack: Stack) -> list[psutil.Process]:
    pids = [int(file.read_text().split()[0]) for file in (stack.state.path / "pids").iterdir()]
    parents = [psutil.Process(pid) for pid in pids]
    return [each for parent in parents for each in (parent, *parent.children(recursive=True))]


def _listening(process: psutil.Process) -> set[str]:
    """The addresses that it listens on. Airflow hides its task processes from everybody but root."""
    try:
        sockets = process.net_connections("inet")
    except (psutil.AccessDenied, psutil.NoSuchProcess):
        return set()
    return {each.laddr.ip for each in sockets if each.status == psutil.CONN_LISTEN}


def test_every_process_listens_on_the_loopback_interface_only(airflow_stack: Stack) -> None:
    listening = set().union(*map(_listening, _processes(airflow_stack)))
    assert listening == {LOOPBACK}


def test_no_command_line_of_airflow_shows_a_secret(airflow_stack: Stack) -> None:
    command_lines = "\n".join(" ".join(process.cmdline()) for process in _processes(airflow_stack))
    secrets = [value for name, value in asdict(airflow_stack.credentials).items() if name != "identity"]
    assert not [secret for secret in secrets if secret in command_lines]


def test_no_service_logs_a_secret(airflow_stack: Stack) -> None:
    logs = "\n".join(log.read_text() for log in (airflow_stack.state.path / "logs").iterdir())
    secrets = [value for name, value in asdict(airflow_stack.credentials).items() if name != "identity"]
    assert not [secret for secret in secrets if secret in logs]


def test_a_wrong_password_is_refused(airflow_stack: Stack) -> None:
    stranger = AirflowApi(airflow_stack.url, airflow_stack.username, "wrong")
    with pytest.raises(StackError, match="refuses the login of 'admin'"):
        stranger.run_state("train_yolo", "any")


def test_a_dag_that_is_not_there_is_named(airflow_stack: Stack) -> None:
    with pytest.raises(StackError, match=r"did not load the Dag nowhere from dags/nowhere\.py"):
        airflow_stack.api.wait_for_dag("nowhere", seconds=0)

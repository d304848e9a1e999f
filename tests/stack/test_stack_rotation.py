"""Secrets are replaced while other commands wait. tests/long/test_rotation.py does so during training."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import psycopg
import pytest

from include.stack import state
from include.stack.errors import StackError
from include.stack.local import Stack
from include.stack.ports import LOOPBACK
from include.stack.postgres import TRAINING_OWNER
from include.stack.rotation import rotate
from include.stack.state import Credentials, StateFolder
from include.stack.steps import Steps
from tests.support import stacks


@pytest.fixture
def without_airflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """Yield a stack that consists of PostgreSQL and S3."""
    monkeypatch.setattr(Stack, "start", Stack._start_servers)
    with stacks.own_stack() as stack:
        yield stack


def _log_in(stack: Stack) -> None:
    psycopg.connect(stack.postgres.build_url("training", TRAINING_OWNER)).close()


def test_a_start_waits_until_the_secrets_have_been_replaced(
    without_airflow: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Future[None]] = []
    other = Stack.at(without_airflow.state.path, without_airflow.postgres_settings)
    prepare = StateFolder.prepare_next_credentials

    def prepare_while_another_starts(folder: StateFolder) -> Credentials:
        started.append(commands.submit(other.up, Steps.quiet()))
        return prepare(folder)

    monkeypatch.setattr(StateFolder, "prepare_next_credentials", prepare_while_another_starts)
    with ThreadPoolExecutor() as commands:
        rotated = rotate(without_airflow, Steps.quiet())
        [start] = started
        start.result()
    assert other.credentials == rotated.credentials != without_airflow.credentials
    _log_in(other)


def test_nothing_is_stopped_or_replaced_if_the_disk_is_full(
    without_airflow: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state, "NEEDED_GB", 1e9)
    with pytest.raises(StackError, match="Free up space"):
        rotate(without_airflow, Steps.quiet())
    _log_in(without_airflow)
    assert not without_airflow.state.next_credentials_file.exists()


def test_a_port_that_another_program_has_taken_does_not_block_a_rotation(without_airflow: Stack) -> None:
    without_airflow.down(Steps.quiet())
    with socket.create_server((LOOPBACK, without_airflow.ports.postgres)):
        rotated = rotate(without_airflow, Steps.quiet())
        _log_in(rotated)

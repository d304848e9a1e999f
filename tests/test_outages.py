"""Servers that hang or are away, and people who intervene, while the real scheduler runs a training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import pytest

from include.stack.local import Stack
from tests.airflow_client import Airflow, recorded_epochs, until
from tests.scheduled_trainings import Training, small_job

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def api(airflow_stack: Stack) -> Airflow:
    client = Airflow(airflow_stack)
    client.run("migrate_schema", {})
    return client


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The parameters of every job here."""
    return small_job(tmp_path_factory.mktemp("model"), 5)


@contextmanager
def standing_still(stack: Stack, service: str) -> Iterator[None]:
    """That server answers nobody meanwhile, though its sockets are open."""
    pid, _ = (stack.state.path / "pids" / f"{service}.pid").read_text().split()
    parent = psutil.Process(int(pid))
    processes = [parent, *parent.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()


def test_an_api_server_that_hangs_does_not_slow_the_training_down(
    api: Airflow, airflow_stack: Stack, job: dict[str, Any]
) -> None:
    training = Training(api, airflow_stack, job | {"job_id": "unheard", "epochs": 12})
    training.reaches(0)
    process = training.process()
    with standing_still(airflow_stack, "api-server"):
        until(
            lambda: recorded_epochs(airflow_stack, "unheard") == [*range(12)] or not process.is_running(),
            "the last epoch, or the end of the process",
            seconds=60,
        )
        assert process.is_running()
    row = training.ends()
    assert (row["status"], row["attempt"]) == ("completed", 1)

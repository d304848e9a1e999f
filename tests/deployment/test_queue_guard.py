"""A Celery worker runs the messages of Airflow's scheduler, and no other message in its queue."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from include.deployment.queue_guard import MessageRefused, require_deployed_task
from tests.support.compose import REPOSITORY, SERVICES
from tests.support.strangers import in_child
from tests.support.workloads import task_workload

CONFIG = "AIRFLOW__CELERY__EXTRA_CELERY_CONFIG"
WORKERS = sorted(name for name in SERVICES if name.startswith("airflow-worker"))


def airflows_celery(environment: dict[str, str]) -> Any:
    """Return Airflow's Celery application with the settings in these environment variables.

    Call this in a separate process, because it removes all other variables.
    """
    os.environ.clear()
    os.environ |= environment
    from airflow.providers.celery.executors.celery_executor_utils import app

    return app


def received(messages: list[tuple[str, list[Any]]], folder: Path, **environment: str) -> list[str]:
    """Send the messages to a worker of Airflow's Celery application; return the outcome of each."""
    given = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(REPOSITORY),
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CELERY__BROKER_URL": "memory://",
        "AIRFLOW__CELERY__RESULT_BACKEND": "cache+memory://",
        **environment,
    }

    def receive() -> list[str]:
        app = airflows_celery(given)
        from celery.contrib.testing.worker import start_worker  # type: ignore[import-untyped]

        outcomes = []
        with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=120):
            for name, args in messages:
                answer = app.send_task(name, args)
                answer.get(timeout=60, propagate=False)
                outcomes.append(f"{answer.state} {answer.result}")
        return outcomes

    return in_child(receive)


def callback(function: str, **arguments: str) -> str:
    """Return a workload that calls the function, without a token signed by Airflow."""
    return json.dumps(
        {
            "type": "ExecuteCallback",
            "token": "none",
            "dag_rel_path": "train_yolo.py",
            "bundle_info": {"name": "dags-folder"},
            "log_path": None,
            "callback": {
                "id": str(uuid4()),
                "fetch_method": "import_path",
                "data": {"path": function, "kwargs": arguments},
            },
        }
    )


def task(dag_file: str) -> str:
    return task_workload("migrate", dag_file).model_dump_json()


@pytest.mark.parametrize("name", WORKERS)
def test_every_worker_of_the_deployment_is_guarded(name: str) -> None:
    guard = f"{require_deployed_task.__module__}.QueueGuard"
    assert json.loads(SERVICES[name]["environment"][CONFIG])["task_annotations"] == [guard]


def test_results_cannot_run_code_in_the_scheduler(tmp_path: Path) -> None:
    """A database would store results as pickles, which the scheduler loads."""
    [url] = {
        re.sub(r"\$\{.*?\}", "secret", SERVICES[name]["environment"]["AIRFLOW__CELERY__RESULT_BACKEND"])
        for name in WORKERS
    }
    assert url == "redis://:secret@redis:6379/1"
    given = {
        "PATH": os.environ["PATH"],
        "AIRFLOW_HOME": str(tmp_path),
        "AIRFLOW__CELERY__RESULT_BACKEND": url,
    }

    def read() -> tuple[str, set[str]]:
        backend = airflows_celery(given).backend
        return type(backend).__name__, backend.accept

    assert in_child(read) == ("RedisBackend", {"application/json"})


@pytest.mark.long
def test_without_the_guard_airflow_calls_any_function_that_a_message_names(tmp_path: Path) -> None:
    """If this test fails, the guard may no longer be needed."""
    made = tmp_path / "made"
    received([("execute_workload", [callback("os.mkdir", path=str(made))])], tmp_path)
    assert made.is_dir()


def test_a_worker_does_not_call_functions_that_a_message_names(tmp_path: Path) -> None:
    made, guarded = tmp_path / "made", {CONFIG: SERVICES["airflow-worker-migrate"]["environment"][CONFIG]}
    workload = callback("os.mkdir", path=str(made))
    messages: list[tuple[str, list[Any]]] = [
        ("execute_workload", [workload]),
        ("celery.map", [{"task": "execute_workload"}, [workload]]),
    ]
    answers = received(messages, tmp_path, **guarded)
    assert [answer.partition(";")[0] for answer in answers] == [
        "FAILURE A message asks for ExecuteCallback",
        "FAILURE A message asks for the Celery task 'celery.map', which Airflow does not send",
    ]
    assert not made.exists()


def test_a_task_of_a_deployed_dag_is_accepted() -> None:
    require_deployed_task("execute_workload", [task("train_yolo.py")], {})
    require_deployed_task("execute_workload", [], {"input": task("team/train_yolo.py")})


@pytest.mark.parametrize("file", ["/training/mine.py", "../../training/mine.py", "team/../../mine.py"])
def test_a_task_whose_dag_file_is_elsewhere_is_refused(file: str) -> None:
    with pytest.raises(MessageRefused, match=r"mine\.py', which is outside the Dags folder"):
        require_deployed_task("execute_workload", [task(file)], {})


@pytest.mark.parametrize("args", [[], ["{}"], ["no JSON"], [1], [task("train_yolo.py"), "more"]])
def test_a_message_without_a_workload_is_refused(args: list[Any]) -> None:
    with pytest.raises(MessageRefused, match="does not contain a workload"):
        require_deployed_task("execute_workload", args, {})

"""A training whose process dies in the middle of an epoch, as with its machine: to see that it goes on."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from include.stack.airflow_api import AirflowApi


def kill_task(api: AirflowApi, dag_id: str, run_id: str, task_id: str) -> bool:
    """Kill (SIGKILL) the processes of a task's present attempt. Returns whether there were any."""
    instances = api.task_instances(dag_id, run_id)
    present = next(instance["id"] for instance in instances if instance["task_id"] == task_id)
    victims = task_processes(present)
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return bool(victims)


def task_processes(task_instance_id: str) -> list[psutil.Process]:
    """Find the process that runs this attempt, and its children.

    Its supervisor, which tells Airflow of it, is not among them.

    Airflow writes the id of the attempt into the titles of both.
    """
    titled = {
        process.pid: process
        for process in psutil.process_iter(["cmdline", "ppid"])
        if task_instance_id in " ".join(process.info["cmdline"] or [])
    }
    return [process for process in titled.values() if process.info["ppid"] in titled]

"""Kills a training run in the middle of an epoch, as if its machine had died, to show that it resumes."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from include.stack.airflow_api import AirflowApi


def kill_task(api: AirflowApi, dag_id: str, run_id: str, task_id: str) -> bool:
    """Kill (SIGKILL) the current attempt of a task. Returns whether the attempt had a process."""
    instances = api.list_task_instances(dag_id, run_id)
    current = next(instance["id"] for instance in instances if instance["task_id"] == task_id)
    victims = find_task_processes(current)
    for process in victims:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return bool(victims)


def find_task_processes(task_instance_id: str) -> list[psutil.Process]:
    """Return the process that runs this attempt and the processes forked from it, but not its supervisor.

    Airflow writes the attempt's id into the titles of the process and of its supervisor, which reports to
    Airflow. A program that the process starts, such as one for another GPU, has a different title and is not
    returned.
    """
    titled = {
        process.pid: process
        for process in psutil.process_iter(["cmdline", "ppid"])
        if task_instance_id in " ".join(process.info["cmdline"] or [])
    }
    return [process for process in titled.values() if process.info["ppid"] in titled]

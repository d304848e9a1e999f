"""Cluster policy that determines which run gets a GPU next, and how many GPUs it gets.

Airflow finds this file because plugins/ is on its path. Every process that creates or resets task instances
needs the file: scheduler, API server and Dag processor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance


def task_instance_mutation_hook(task_instance: TaskInstance, dag_run: DagRun | None = None) -> None:
    """Order the tasks of pool `gpu` by the creation time of their runs; give `train` one slot for each GPU.

    Airflow calls this function without a run while it creates the instance, and then again with the run. The
    scheduler starts the task with the highest weight first. It orders tasks of equal weight by the logical
    date of their runs, but runs triggered over REST may have none. A task's `pool_slots` is fixed when the
    Dag is parsed, but only the run's conf says how many GPUs the run uses. `resolve_config` refuses an
    invalid device before `train` is scheduled.
    """
    if dag_run is None or task_instance.pool != "gpu":
        return
    task_instance.priority_weight = -dag_run.id
    if (task_instance.dag_id, task_instance.task_id) == ("train_yolo", "train"):
        device = (dag_run.conf or {}).get("device")
        task_instance.pool_slots = device.count(",") + 1 if isinstance(device, str) else 1

"""Cluster policy, which Airflow finds because plugins/ is on its path: who gets a GPU next, and how many.

Whatever makes or resets task instances must see this file: scheduler, API server, Dag processor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance


def task_instance_mutation_hook(task_instance: TaskInstance, dag_run: DagRun | None = None) -> None:
    """Order the tasks of pool `gpu` by when their runs were created, and give `train` a slot for each GPU.

    Airflow calls this without a run while it makes the instance, and again with one. The scheduler starts the
    highest weight first and orders equal ones by logical date, which runs over REST lack and Airflow's form
    fills in. `pool_slots` of a task is fixed when the Dag is parsed, but how many GPUs a run wants is known
    only from its conf; `resolve_config` refuses a device that is none before `train` is due.
    """
    if dag_run is None or task_instance.pool != "gpu":
        return
    task_instance.priority_weight = -dag_run.id
    if (task_instance.dag_id, task_instance.task_id) == ("train_yolo", "train"):
        device = (dag_run.conf or {}).get("device")
        task_instance.pool_slots = device.count(",") + 1 if isinstance(device, str) else 1

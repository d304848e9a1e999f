"""Cluster policy, which Airflow finds because plugins/ is on its path: a pool slot for each GPU asked for.

`pool_slots` of a task is fixed when the Dag is parsed, but how many GPUs a run wants is known only from its
conf.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.models.dagrun import DagRun
    from airflow.models.taskinstance import TaskInstance


def task_instance_mutation_hook(task_instance: TaskInstance, dag_run: DagRun | None = None) -> None:
    """Give `train` as many slots of pool `gpu` as its `device` names GPUs. Airflow once passes no run."""
    if dag_run is None or (task_instance.dag_id, task_instance.task_id) != ("train_yolo", "train"):
        return
    device = (dag_run.conf or {}).get("device")
    task_instance.pool_slots = len(device.split(",")) if isinstance(device, str) else 1

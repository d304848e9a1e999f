"""Workloads in the form in which Airflow's scheduler sends them to workers."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

from airflow.executors.workloads import ExecuteTask
from airflow.executors.workloads.base import BundleInfo
from airflow.executors.workloads.task import TaskInstanceDTO


def task_workload(queue: str, dag_file: str = "dag.py") -> ExecuteTask:
    """Return a task of a Dag in `dag_file`, for a worker of `queue`."""
    instance = TaskInstanceDTO(
        id=uuid4(),
        dag_version_id=uuid4(),
        dag_id="dag",
        task_id="task",
        run_id="run",
        try_number=1,
        queue=queue,
        pool_slots=1,
        priority_weight=1,
    )
    return ExecuteTask(
        ti=instance,
        dag_rel_path=Path(dag_file),
        token="",
        log_path=None,
        bundle_info=BundleInfo(name="dags-folder"),
    )

"""A Dag with the task graph of a training run and empty tasks, to time Airflow's overhead between tasks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from include.stack.airflow import REPOSITORY
from include.stack.local import Stack

if TYPE_CHECKING:
    from pathlib import Path

    from include.stack.airflow import Airflow

EMPTY_TASKS = "empty_tasks"
"""Id of the Dag with empty tasks."""

_SOURCE = """\
from airflow.sdk import dag, task


@task
def nothing():
    pass


@dag(schedule=None)
def empty_tasks():
    names = "train", "upload_best", "upload_last", "record_checkpoints"
    train, best, last, record = (nothing.override(task_id=name)() for name in names)
    train >> [best, last] >> record


empty_tasks()
"""


@dataclass(frozen=True)
class EmptyTasksStack(Stack):
    """A local stack with this Dag in addition to the project's Dags."""

    @property
    def airflow(self) -> Airflow:
        """Airflow with a Dag folder that also contains this Dag."""
        ours = super().airflow
        folder = self.state.make_private("dags")
        _fill(folder)
        return replace(ours, variables={**ours.variables, "AIRFLOW__CORE__DAGS_FOLDER": str(folder)})


def _fill(folder: Path) -> None:
    for file in (REPOSITORY / "dags").glob("*.py"):
        link = folder / file.name
        if not link.is_symlink():
            link.symlink_to(file)
    (folder / f"{EMPTY_TASKS}.py").write_text(_SOURCE)

"""Makes Celery workers refuse all messages except tasks of deployed Dags; the scheduler sends nothing else.

Every worker has the broker's password, so code that runs on one worker can put messages into the queues of
others, such as the queue of the worker that owns the schema. Two kinds of messages would make the receiving
worker run code of the sender's choice, with access to that worker's secrets. A callback can name any
importable function, which Airflow calls without checking a token. A task can name any Dag file, for example
on a volume that workers share, and Airflow accepts the token of any waiting task. The scheduler sends workers
no callbacks, because no Dag has deadlines.

    [celery] extra_celery_config = {"task_annotations": ["include.deployment.queue_guard.QueueGuard"]}
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from include.errors import FinalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_TASK = "execute_workload"
"""Name of the only Celery task that Airflow's scheduler sends."""


class MessageRefused(FinalError):
    """The message is not one that Airflow's scheduler sends."""


class QueueGuard:
    """A Celery annotation that adds a check before every Celery task."""

    def annotate(self, task: object) -> None:
        """Return None, because all tasks get the same attributes (`annotate_any`)."""

    def annotate_any(self) -> dict[str, Callable[..., None]]:
        """Return the attributes that every task gets."""
        return {"before_start": _refuse_unexpected}


def require_deployed_task(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Raise MessageRefused unless the message asks for a task whose Dag is in the deployed folder.

    Celery's own tasks are refused as well: `celery.map`, for example, calls other tasks without a check.
    """
    # Use the executor's own parser: another parser could read the same message differently.
    from airflow.executors.workloads import ExecuteTask, ExecutorWorkload
    from pydantic import TypeAdapter

    if name != _TASK:
        raise MessageRefused(f"A message asks for the Celery task {name!r:.80}, which Airflow does not send")
    try:
        (text,) = (*args, *kwargs.values())
        workload = TypeAdapter[Any](ExecutorWorkload).validate_json(text)
    except (TypeError, ValueError):
        raise MessageRefused("A message does not contain a workload for Airflow") from None
    if not isinstance(workload, ExecuteTask):
        raise MessageRefused(f"A message asks for {type(workload).__name__}; these workers run only tasks")
    file = PurePath(workload.dag_rel_path)
    if file.is_absolute() or ".." in file.parts:
        raise MessageRefused(f"A message names {str(file)!r:.200}, which is outside the Dags folder")


def _refuse_unexpected(task: Any, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    require_deployed_task(task.name, args, kwargs)

"""The local stack's executor: a LocalExecutor whose workers serve every queue.

Each task gets the connections of its queue, and its worker has already imported the modules that tasks need.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import logging
import os
from typing import TYPE_CHECKING, Any, cast

from airflow.executors.local_executor import LocalExecutor
from airflow.executors.workloads import ExecuteTask

from include.stack.connections import QUEUE_CONNECTIONS
from include.stack.gpus import trains_on_cpu
from include.training.environment import isolate_ultralytics

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing import SimpleQueue

    from airflow.executors.workloads import ExecutorWorkload

log = logging.getLogger(__name__)

TASKS = (
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.providers.postgres.hooks.postgres",
    "alembic",
)
"""Modules that most tasks import. Each task imports our own modules itself, so that edits take effect."""

TRAINER = (
    "torch._dynamo",
    "ultralytics.engine.trainer",
    "ultralytics.models.yolo",
    "matplotlib.pyplot",
)
"""Modules that a training run imports. Deterministic algorithms load torch's compiler, even if unused;
Ultralytics draws the labels with matplotlib. Ultralytics also imports polars, which must not be listed,
because its threads do not survive a fork."""


class QueueConnections:
    """Gives a worker its tasks, and puts the connections of each task's queue into the environment.

    A LocalExecutor ignores Airflow's queues. In other deployments, each queue has its own workers, and their
    environment has the queue's connections.
    """

    def __init__(
        self, waiting: SimpleQueue[ExecutorWorkload | None], by_queue: Mapping[str, Mapping[str, str]]
    ) -> None:
        self._waiting = waiting
        self._by_queue = by_queue

    def get(self) -> ExecutorWorkload | None:
        """Wait for a task and return it, with its queue's connections in the environment that it inherits.

        Returns None if the worker has to end.
        """
        workload = self._waiting.get()
        for variables in self._by_queue.values():
            for name in variables:
                os.environ.pop(name, None)
        if isinstance(workload, ExecuteTask):
            os.environ.update(self._by_queue.get(workload.ti.queue, {}))
        return workload


class QueueExecutor(LocalExecutor):
    """A LocalExecutor that gives tasks the connections of their queue, and imports modules before they start.

    Every task runs in a fork of a worker. Imports take most of a task's startup time, and are the same for
    all tasks. On a machine with GPUs a training run imports torch itself: a process whose parent has
    initialised CUDA cannot use CUDA, and libraries may initialise it on import.
    """

    _by_queue: Mapping[str, Mapping[str, str]]

    def start(self) -> None:
        """Import the modules, then fork the workers."""
        self._by_queue = json.loads(os.environ.pop(QUEUE_CONNECTIONS, "{}"))
        if self.is_mp_using_fork:
            isolate_ultralytics()
            for module in (*TASKS, *TRAINER) if trains_on_cpu() else TASKS:
                preload(module)
            # Without this, a process collects garbage among all imported objects several times when it ends.
            atexit.register(gc.freeze)
        super().start()

    def _spawn_worker(self) -> None:
        shared = self.activity_queue
        # The worker uses this queue only to get its tasks.
        self.activity_queue = cast("Any", QueueConnections(shared, self._by_queue))
        try:
            super()._spawn_worker()  # type: ignore[no-untyped-call]
        finally:
            self.activity_queue = shared


def preload(module: str) -> None:
    """Import a module. If the import fails, a task that needs the module will log the reason."""
    try:
        importlib.import_module(module)
    except Exception:
        log.warning("%s could not be imported ahead of the tasks.", module, exc_info=True)

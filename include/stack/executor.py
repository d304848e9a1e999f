"""The local stack's executor: a LocalExecutor whose workers serve every queue."""

from __future__ import annotations

import atexit
import gc
import json
import os
import sys
from typing import TYPE_CHECKING, Any, cast

from airflow.executors.local_executor import LocalExecutor
from airflow.executors.workloads import ExecuteTask

from include.stack.connections import QUEUE_CONNECTIONS
from include.stack.gpus import trains_on_cpu
from include.stack.preloading import import_ahead

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing import SimpleQueue

    from airflow.executors.workloads import ExecutorWorkload

    from include.stack.preloading import OwnModules


class PreparedTasks:
    """Gives a worker its tasks, and prepares the worker's process, from which each task is forked.

    The connections of the task's queue are set in the environment of the process. (In other deployments, each
    queue has its own workers, which have these connections in their environment.) Once a file of the project
    has been edited, the imported modules are dropped.
    """

    def __init__(
        self,
        waiting: SimpleQueue[ExecutorWorkload | None],
        by_queue: Mapping[str, Mapping[str, str]],
        modules: OwnModules,
    ) -> None:
        self._waiting = waiting
        self._by_queue = by_queue
        self._modules = modules

    def get(self) -> ExecutorWorkload | None:
        """Wait for a task, prepare this process for it, and return it; None tells the worker to end."""
        workload = self._waiting.get()
        self._modules.forget_if_edited()
        for variables in self._by_queue.values():
            for name in variables:
                os.environ.pop(name, None)
        if isinstance(workload, ExecuteTask):
            os.environ.update(self._by_queue.get(workload.ti.queue, {}))
        return workload


class QueueExecutor(LocalExecutor):
    """A LocalExecutor that gives tasks the connections of their queue, and imports modules in advance.

    Every task runs in a fork of a worker. Imports take most of a task's startup time, and are the same for
    all tasks. On a machine with GPUs, a training run imports torch itself: a process whose parent has
    initialised CUDA cannot use CUDA, and libraries may initialise it on import.
    """

    def start(self) -> None:
        """Import the modules, then fork the workers."""
        self._by_queue: Mapping[str, Mapping[str, str]] = json.loads(os.environ.pop(QUEUE_CONNECTIONS, "{}"))
        self._modules = import_ahead(with_torch=trains_on_cpu())
        # Without this, each ending process would collect garbage among all imported objects several times.
        atexit.register(gc.freeze)
        super().start()

    def end(self) -> None:
        """Let the running tasks finish; but if the scheduler has failed, end them, so that it restarts soon.

        A scheduler that waited for a training run would schedule nothing else for hours. A training run that
        gets SIGTERM saves its state, and resumes.
        """
        if isinstance(sys.exception(), Exception):  # SystemExit, which is none, follows a signal
            for worker in self.workers.values():
                worker.terminate()
        super().end()

    def _spawn_worker(self) -> None:
        shared = self.activity_queue
        # The worker uses this queue only to get its tasks.
        self.activity_queue = cast("Any", PreparedTasks(shared, self._by_queue, self._modules))
        try:
            super()._spawn_worker()  # type: ignore[no-untyped-call]
        finally:
            self.activity_queue = shared

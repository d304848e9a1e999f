"""The local stack's executor: a LocalExecutor whose workers have already imported what tasks need."""

from __future__ import annotations

import atexit
import gc
import importlib
import logging

from airflow.executors.local_executor import LocalExecutor

from include.stack.gpus import count_gpus
from include.training.environment import isolate_ultralytics

log = logging.getLogger(__name__)

TASKS = (
    "airflow.providers.amazon.aws.hooks.s3",
    "airflow.providers.postgres.hooks.postgres",
    "alembic",
)
"""Modules that all tasks import. Not our own: each task imports them itself, so that edits take effect."""

TRAINER = (
    "torch._dynamo",
    "ultralytics.engine.trainer",
    "ultralytics.models.yolo",
)
"""Modules that a training run imports; deterministic algorithms load torch's compiler, even if unused."""


class PreloadingExecutor(LocalExecutor):
    """A LocalExecutor that imports modules before forking the workers.

    Every task runs in a fork of a worker. Imports take most of a task's startup time, and are the same for
    all tasks. On a machine with GPUs a training run imports torch itself: a process whose parent has
    initialised CUDA cannot use it, and libraries may do so on import.
    """

    def start(self) -> None:
        """Import the modules, then fork the workers."""
        if self.is_mp_using_fork:
            isolate_ultralytics()
            for module in TASKS if count_gpus() else (*TASKS, *TRAINER):
                preload(module)
            # Without this, a process collects garbage among all imported objects several times when it ends.
            atexit.register(gc.freeze)
        super().start()


def preload(module: str) -> None:
    """Import a module. If that fails, the task that needs it will fail with the reason in its log."""
    try:
        importlib.import_module(module)
    except Exception:
        log.warning("%s could not be imported ahead of the tasks.", module, exc_info=True)

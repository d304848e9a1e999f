"""The local stack's executor: LocalExecutor whose workers have already imported what the tasks import."""

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
"""What all tasks import. Our own code is not among it: every task reads that, so an edit takes effect."""

TRAINER = (
    "torch._dynamo",
    "ultralytics.engine.trainer",
    "ultralytics.models.yolo",
)
"""What a training imports; deterministic algorithms need torch's compiler, whether or not it compiles."""


class PreloadingExecutor(LocalExecutor):
    """Import modules before forking the workers.

    Every task runs in a fork of a worker. Importing takes most of the seconds before a task does anything,
    and is the same for all of them. On a machine with GPUs a training imports torch itself: a process whose
    parent has touched CUDA cannot use it, and what libraries touch when they are imported is up to them.
    """

    def start(self) -> None:
        """Import and fork."""
        if self.is_mp_using_fork:
            isolate_ultralytics()
            for module in TASKS if count_gpus() else (*TASKS, *TRAINER):
                preload(module)
            # A process that ends searches all that it has imported for garbage, several times.
            atexit.register(gc.freeze)
        super().start()


def preload(module: str) -> None:
    """Import a module. One that cannot be imported fails in the task that needs it, with the reason there."""
    try:
        importlib.import_module(module)
    except Exception:
        log.warning("%s could not be imported ahead of the tasks.", module, exc_info=True)

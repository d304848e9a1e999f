"""The executor of the local stack ends with its scheduler."""

from __future__ import annotations

import signal
from contextlib import suppress
from multiprocessing import Process, SimpleQueue
from typing import TYPE_CHECKING, Any

from include.stack.executor import QueueExecutor

if TYPE_CHECKING:
    from multiprocessing.queues import SimpleQueue as Queue


def _work(tasks: Queue[None], started: Queue[None]) -> None:
    """Work as a task that ends when the executor tells its workers to end after their tasks."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    started.put(None)
    tasks.get()


def _end_after(error: BaseException) -> int | None:
    """End the executor as a scheduler with this error does; return the exit code of a worker with a task."""
    executor = QueueExecutor()  # type: ignore[no-untyped-call]
    tasks: Queue[Any] = SimpleQueue()
    started: Queue[None] = SimpleQueue()
    executor.activity_queue, executor.result_queue = tasks, SimpleQueue()
    worker = Process(target=_work, args=[tasks, started])
    worker.start()
    started.get()
    executor.workers = {worker.pid or 0: worker}
    exit_codes: list[int | None] = []
    worker.close = lambda: exit_codes.append(worker.exitcode)  # type: ignore[method-assign]
    with suppress(type(error)):
        try:
            raise error
        finally:
            executor.end()
    return exit_codes[0]


def test_a_scheduler_that_fails_ends_its_tasks_instead_of_waiting_for_them() -> None:
    assert _end_after(ConnectionError("PostgreSQL does not respond")) == -signal.SIGTERM


def test_tasks_of_a_scheduler_that_is_stopped_are_not_signalled_again() -> None:
    assert _end_after(SystemExit(0)) == 0

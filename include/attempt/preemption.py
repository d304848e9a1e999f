"""Preemption: after SIGTERM, ends training soon enough to save its last batch in S3.

Airflow forwards SIGTERM to the task's process, but the handler that Airflow installs there does nothing for a
Python task. The task would continue until it is killed.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.child_processes import signal_at_parents_death

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_BATCH_SECONDS = 20.0
"""How long a batch or a validation may continue after SIGTERM, so that it is not lost."""


class Preempted(BaseException):
    """The process was asked to end. Another attempt resumes from the last durable state.

    Not an Exception, because in some places Ultralytics catches every Exception and continues training.
    """

    def __init__(self) -> None:
        super().__init__(
            "The worker was asked to stop (SIGTERM). The next attempt resumes from the last durable state."
        )


class Termination:
    """Handles a SIGTERM to this process; created by `handle_sigterm`."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self.is_requested = False
        """Whether SIGTERM has arrived."""
        self._holds = 0
        self._is_announced = False
        self._awaits_batch = False
        self._deadline = 0.0
        self._again: threading.Timer | None = None

    def await_batch(self) -> None:
        """From now on, let the current batch finish before Preempted is raised.

        After each batch, `JobReporter` checks `is_requested` and, if it is set, asks for a final state.
        Preempted is raised 20 s after SIGTERM even if that state has not been saved.
        """
        self._awaits_batch = True

    def check(self) -> None:
        """Raise Preempted if SIGTERM has arrived, even if an earlier Preempted was caught and discarded."""
        if self.is_requested:
            self._is_announced = True
            _silence_dying_workers()
            raise Preempted

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer Preempted until the end of the block.

        For short steps that must not be interrupted: taking a lock, or a request to Airflow (the
        response to an interrupted request would be read by the next request). Use it in the main thread.
        """
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        self._announce()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal, without logging, because it may have interrupted the writing of a log line."""
        if os.getpid() != self._process:
            # A forked child (such as a loader worker) ends, as it would without this handler.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if not self.is_requested:
            self.is_requested, self._deadline = True, time.monotonic() + _BATCH_SECONDS
            if self._awaits_batch:
                self._again = threading.Timer(_BATCH_SECONDS, os.kill, (self._process, number))
                self._again.daemon = True
                self._again.start()
        self._announce()

    def disarm(self) -> None:
        """Stop raising Preempted."""
        self._is_announced = True
        if self._again is not None:
            self._again.cancel()
            self._again.join()  # before the previous handler is restored

    def _announce(self) -> None:
        """Raise Preempted, but only once: raising it again would interrupt the handling of the first."""
        waits = self._holds or (self._awaits_batch and time.monotonic() < self._deadline)
        if self.is_requested and not self._is_announced and not waits:
            self.check()


@contextmanager
def handle_sigterm() -> Iterator[Termination]:
    """Raise Preempted in the block after the first SIGTERM; ignore later ones. Use it in the main thread.

    An Exception that the block raises after SIGTERM also becomes Preempted, because the signal makes training
    fail in various ways, for example by ending loader workers. On Linux the death of Airflow's supervisor
    process counts as SIGTERM; otherwise this process would continue unsupervised, in parallel with the next
    attempt. The previous handler is restored afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "handle_sigterm() was called outside the main thread, but Python handles signals only there. "
            "Call it in the main thread."
        )
    termination = Termination()
    former = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, termination.receive)
        signal_at_parents_death(signal.SIGTERM)
        yield termination
    except Exception as error:
        if termination.is_requested:
            raise Preempted from error
        raise
    finally:
        termination.disarm()
        signal_at_parents_death(0)
        signal.signal(signal.SIGTERM, former)


def _silence_dying_workers() -> None:
    """Keep torch's SIGCHLD handler from raising errors about loader workers that the same SIGTERM ended.

    The handler raises wherever the main thread happens to be, so its error would replace a Preempted that is
    being raised, or interrupt the code that handles Preempted. The handler is not restored, because a process
    that was asked to end no longer needs it.
    """
    signal.signal(signal.SIGCHLD, lambda number, frame: None)

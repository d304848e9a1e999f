"""A machine that is taken away: SIGTERM ends a training with time left to make its last batch durable.

Airflow passes SIGTERM on to the task's process, where its own handler does nothing for a Python task: the
task would go on until it is killed.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_PR_SET_PDEATHSIG = 1
"""From linux/prctl.h: which signal a process gets when its parent dies."""

_BATCH_SECONDS = 20.0
"""How long SIGTERM waits for the end of a batch, or of a validation, so that nothing is lost."""


class Preempted(BaseException):
    """The process was asked to end. Another attempt goes on from the last durable epoch.

    No Exception, because Ultralytics catches those in places and would train on.
    """

    def __init__(self) -> None:
        super().__init__(
            "The worker was asked to stop (SIGTERM). The next attempt goes on from the last durable state."
        )


class Termination:
    """Whether this process was asked to end, and what happens then. `handle_sigterm` makes it."""

    def __init__(self) -> None:
        self._process = os.getpid()
        self._holds = 0
        self._requested = False
        self._announced = False
        self._awaits_batch = False
        self._deadline = 0.0
        self._again: threading.Timer | None = None

    def await_batch(self) -> None:
        """From now on SIGTERM raises nothing at once: who trains asks `requested` after each batch.

        Where no batch ends within 20 s, it is raised all the same.
        """
        self._awaits_batch = True

    @property
    def requested(self) -> bool:
        """Whether SIGTERM came."""
        return self._requested

    def check(self) -> None:
        """Raise Preempted where SIGTERM came, also where it was raised before and swallowed on its way up."""
        if self._requested:
            self._announced = True
            raise Preempted

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Nothing is raised inside; a SIGTERM that came meanwhile raises Preempted at the end.

        For short steps that must not be torn apart: what takes a lock, and what asks Airflow for something (a
        torn question leaves its answer to the next one). Use it in the main thread.
        """
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        self._announce()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal without logging: it may have interrupted a line that is being written."""
        if os.getpid() != self._process:
            # A forked child (a loader's worker, for instance) ends, as it would without this handler.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if not self._requested:
            self._requested, self._deadline = True, time.monotonic() + _BATCH_SECONDS
            if self._awaits_batch:
                self._again = threading.Timer(_BATCH_SECONDS, os.kill, (self._process, number))
                self._again.daemon = True
                self._again.start()
        self._announce()

    def disarm(self) -> None:
        """Raise nothing any more."""
        self._announced = True
        if self._again is not None:
            self._again.cancel()
            self._again.join()  # before the signal does what it did without this

    def _announce(self) -> None:
        """Raise Preempted, once: a second time it would tear apart what the first has set off."""
        waits = self._holds or (self._awaits_batch and time.monotonic() < self._deadline)
        if self._requested and not self._announced and not waits:
            self.check()


@contextmanager
def handle_sigterm() -> Iterator[Termination]:
    """SIGTERM raises Preempted in the block, once; later ones change nothing. Use it in the main thread.

    Any other error of the block becomes Preempted too where SIGTERM came before it: loader workers, for
    instance, that were ended by the same signal fail the training in their own way. On Linux the death of
    the supervisor counts as SIGTERM: without it this process would train on, unseen, beside its successor.
    The former handler is back afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(
            "handle_sigterm() was entered outside of the main thread, where signals do not arrive. Call it "
            "in the main thread."
        )
    termination = Termination()
    former = signal.getsignal(signal.SIGTERM)
    try:
        signal.signal(signal.SIGTERM, termination.receive)
        _signal_at_parents_death(signal.SIGTERM)
        yield termination
    except Exception as error:
        if termination.requested:
            raise Preempted from error
        raise
    finally:
        termination.disarm()
        _signal_at_parents_death(0)
        signal.signal(signal.SIGTERM, former)


def _signal_at_parents_death(number: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)

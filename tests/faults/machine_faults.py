"""What a machine may do."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.job import Fault, Job


@contextmanager
def _killed(job: Job) -> Iterator[None]:
    job.attempt.kill()
    yield


@contextmanager
def _stopped(job: Job) -> Iterator[None]:
    """As the watchdog does it: SIGSTOP first."""
    job.process.send_signal(signal.SIGSTOP)
    time.sleep(1)
    job.attempt.kill()
    yield


MACHINE_FAULTS = (
    Fault("kill -9", "machine", _killed, seconds=0),
    Fault("stopped, then killed", "machine", _stopped, seconds=0),
)

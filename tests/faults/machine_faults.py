"""What a machine may do."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.faults.fault import Fault
from tests.faults.job import Job
from tests.faults.moments import MOMENTS
from tests.killing import Machine


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


def _child(job: Job, is_it: Callable[[psutil.Process], bool]) -> psutil.Process:
    return next(each for each in job.process.children(recursive=True) if is_it(each))


@contextmanager
def _worker_killed(job: Job) -> Iterator[None]:
    _child(job, lambda process: True).kill()
    yield


@contextmanager
def _worker_stopped(job: Job) -> Iterator[None]:
    """Nothing comes from it; then the kernel ends it."""
    worker = _child(job, lambda process: True)
    worker.suspend()
    yield
    with suppress(psutil.NoSuchProcess):
        worker.kill()


@contextmanager
def _rank_killed(job: Job) -> Iterator[None]:
    _child(job, lambda process: process.environ().get("RANK") == "1").kill()
    yield


@contextmanager
def _disk_full(job: Job) -> Iterator[None]:
    """The attempt's files may not grow beyond this; the next attempt finds room again."""
    process = job.process
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (_FULL_BYTES, before[1]))
    yield
    with suppress(psutil.NoSuchProcess):
        process.rlimit(psutil.RLIMIT_FSIZE, before)


@contextmanager
def _read_only(job: Job) -> Iterator[None]:
    job.root.mkdir(exist_ok=True)
    folders = [Path(folder) for folder, _, _ in os.walk(job.root)]
    modes = {folder: folder.stat().st_mode for folder in folders}
    for folder in folders:
        folder.chmod(0o500)
    try:
        yield
    finally:
        for folder, mode in modes.items():
            with suppress(FileNotFoundError):
                folder.chmod(mode)


@contextmanager
def _folder_removed(job: Job) -> Iterator[None]:
    """As a cleaner of temporary files does it."""
    shutil.rmtree(job.root, ignore_errors=True)
    yield


_FULL_BYTES = 48 * 1024
"""Less than any checkpoint here."""

_TRAINING = ("in a batch", "saving", "validating")
_ONCE_IT_HAS_BEGUN = tuple(moment.name for moment in MOMENTS if moment.name != "starting")
"""At the start a machine that was set up wrongly is refused with a sentence."""

_WORKERS = Machine(threads=1, workers=2)

MACHINE_FAULTS = (
    Fault("kill -9", "machine", _killed, seconds=0),
    Fault("stopped, then killed", "machine", _stopped, seconds=0),
    Fault("loader worker killed", "machine", _worker_killed, seconds=0, machine=_WORKERS, moments=_TRAINING),
    Fault(
        "loader worker stopped, then killed", "machine", _worker_stopped, machine=_WORKERS, moments=_TRAINING
    ),
    Fault("one of two ranks killed", "machine", _rank_killed, seconds=0, processes=2, moments=("uploading",)),
    Fault("disk full", "machine", _disk_full),
    Fault("folder read-only", "machine", _read_only, ends=("failed",), moments=("starting",)),
    Fault("folder read-only", "machine", _read_only, moments=_ONCE_IT_HAS_BEGUN),
    Fault("folder removed", "machine", _folder_removed, seconds=0),
)

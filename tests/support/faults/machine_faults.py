"""Faults of a machine."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support.faults.fault import Fault
from tests.support.faults.job import Job
from tests.support.faults.moments import MOMENTS
from tests.support.killing import Machine


@contextmanager
def _kill(job: Job) -> Iterator[None]:
    job.attempt.kill()
    yield


@contextmanager
def _stop_and_kill(job: Job) -> Iterator[None]:
    """Kill the attempt as the watchdog does: SIGSTOP first."""
    job.process.send_signal(signal.SIGSTOP)
    time.sleep(1)
    job.attempt.kill()
    yield


def _find_child(job: Job, is_wanted: Callable[[psutil.Process], bool]) -> psutil.Process:
    return next(child for child in job.process.children(recursive=True) if is_wanted(child))


def _find_loader_worker(job: Job) -> psutil.Process:
    """Return a loader worker; unlike the watchdog, it has the same command line as the attempt."""
    own = job.process.cmdline()
    return _find_child(job, lambda process: process.cmdline() == own)


@contextmanager
def _kill_worker(job: Job) -> Iterator[None]:
    _find_loader_worker(job).kill()
    yield


@contextmanager
def _stop_worker(job: Job) -> Iterator[None]:
    """Suspend a loader worker, then kill it."""
    worker = _find_loader_worker(job)
    worker.suspend()
    yield
    with suppress(psutil.NoSuchProcess):
        worker.kill()


@contextmanager
def _kill_rank(job: Job) -> Iterator[None]:
    _find_child(job, lambda process: process.environ().get("RANK") == "1").kill()
    yield


@contextmanager
def _fill_disk(job: Job) -> Iterator[None]:
    """Limit the size of the attempt's files during the block; the next attempt has no limit."""
    process = job.process
    before = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (_FULL_BYTES, before[1]))
    yield
    with suppress(psutil.NoSuchProcess):
        process.rlimit(psutil.RLIMIT_FSIZE, before)


@contextmanager
def _make_read_only(job: Job) -> Iterator[None]:
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
def _remove_folder(job: Job) -> Iterator[None]:
    """Remove the job's folder, as a cleaner of temporary files would."""
    shutil.rmtree(job.root, ignore_errors=True)
    yield


_FULL_BYTES = 48 * 1024
"""Less than the size of any checkpoint in these tests."""

_TRAINING = ("in a batch", "saving", "validating")
_AFTER_THE_START = tuple(moment.name for moment in MOMENTS if moment.name != "starting")
"""All moments except the start, when a machine that is set up wrongly is refused with a reason."""

_WORKERS = Machine(threads=1, workers=2)

MACHINE_FAULTS = (
    Fault("kill -9", "machine", _kill, seconds=0),
    Fault("stopped, then killed", "machine", _stop_and_kill, seconds=0),
    Fault("loader worker killed", "machine", _kill_worker, seconds=0, machine=_WORKERS, moments=_TRAINING),
    Fault("loader worker stopped, then killed", "machine", _stop_worker, machine=_WORKERS, moments=_TRAINING),
    Fault("one of two ranks killed", "machine", _kill_rank, seconds=0, processes=2, moments=("uploading",)),
    Fault("disk full", "machine", _fill_disk, seconds=6),  # Ultralytics' torch.save tries again for 3.5 s
    Fault("folder read-only", "machine", _make_read_only, ends=("failed",), moments=("starting",)),
    Fault("folder read-only", "machine", _make_read_only, moments=_AFTER_THE_START),
    Fault("folder removed", "machine", _remove_folder, seconds=0),
)

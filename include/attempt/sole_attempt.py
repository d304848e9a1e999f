"""Ensures that only one attempt at a job runs on a machine.

Airflow starts the next attempt when it believes the previous one to be dead. But the previous one may still
be alive, for example if it was suspended and resumed, if its machine froze, or if it lost its connection to
Airflow. It would then keep its GPU, and continue to write into the folder in which the next attempt trains.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from include.file_locks import is_current, try_lock
from include.training.contract import MachineUnusable
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_WAIT_SECONDS = 60.0
"""How long to wait for other processes to end: a killed process may linger, and others end by themselves."""


class StillRunning(MachineUnusable):
    """Another attempt uses the job's folder. A later retry, or one on another machine, can succeed."""


@dataclass(frozen=True)
class _Holder:
    """The process that holds a job on this machine."""

    run_id: str
    """Dag run of the attempt."""
    attempt: int
    """Number of the attempt within that run."""
    pid: int
    """Process id, as the process itself sees it."""
    process: str
    """Identifies the process across all machines and reboots; see `_identify`."""

    @classmethod
    def read(cls, descriptor: int) -> _Holder | None:
        """Return the holder recorded in the locked file; None if it has not yet written its entry."""
        try:
            return cls(**json.loads(os.pread(descriptor, 4096, 0)))
        except (ValueError, TypeError):
            return None

    def write(self, descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(self)).encode(), 0)

    def kill(self) -> None:
        """Send SIGKILL, unless the process has ended or belongs to another machine or container."""
        with suppress(OSError):
            descriptor = os.pidfd_open(self.pid)  # refers to this process even if the pid is reused
            try:
                if _identify(self.pid) == self.process:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)


@contextmanager
def sole_attempt(locks: Path, job_id: str, run_id: str, attempt: int) -> Iterator[None]:
    """Hold the job on this machine until the block ends. The caller must own the job's row.

    If an older attempt, or an attempt of another run, still holds the job, its process is killed. Its child
    processes also hold the job, until its watchdog kills them. Raises StillRunning if any of these processes
    is still running after a minute, or if the holder is the same or a newer attempt of this run.
    """
    path = make_trusted_folder(locks) / job_id
    own = _Holder(run_id, attempt, os.getpid(), _identify(os.getpid()))
    descriptor = _lock(path, own)
    try:
        own.write(descriptor)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path, own: _Holder) -> int:
    """Open the file and lock it; kill an older attempt that holds it."""
    deadline, killed = time.monotonic() + _WAIT_SECONDS, None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if try_lock(descriptor) and is_current(descriptor, path):
            return descriptor
        holder = _Holder.read(descriptor)
        os.close(descriptor)
        if holder is not None and holder != killed:
            _end(holder, own)
            killed = holder
        if time.monotonic() > deadline:
            who = f"Attempt {holder.attempt} (process {holder.pid})" if holder else "Another attempt"
            raise StillRunning(f"{who} at this job is still running in the same folder after a minute")
        time.sleep(0.1)


def _end(holder: _Holder, own: _Holder) -> None:
    """Kill the holder. Raises StillRunning if it is the same or a newer attempt of this run."""
    if holder.run_id == own.run_id and holder.attempt >= own.attempt:
        raise StillRunning(f"Attempt {holder.attempt} (process {holder.pid}) at this job is already running")
    log.warning(
        "Attempt %d (process %d) is still running this job on this machine, although Airflow has started a "
        "new attempt. Killing it.",
        holder.attempt,
        holder.pid,
    )
    holder.kill()


def _identify(pid: int) -> str:
    """Return this machine's boot id, this process's container, and the start time of process `pid`.

    The container is read from /proc/self, not from the other process's folder: Airflow makes its task
    processes non-dumpable, which hides most of that folder even from the same user. If the holder runs in
    another container, its recorded identity contains that container, and so does not match.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{boot} {Path('/proc/self/ns/pid').readlink()} {started}"

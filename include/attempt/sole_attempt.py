"""One attempt at a job at a time on a machine.

Airflow begins the next attempt when it takes the one before for dead. That one may be alive all the same:
stopped and continued, frozen with its machine, cut off from Airflow. It would keep its GPU, and go on writing
into the folder that the next one trains in.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import signal
import time
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from include.training.contract import MachineUnusable
from include.trusted_folders import make_trusted_folder

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger(__name__)

_WAIT_SECONDS = 60.0
"""For the end of what was killed (it ends late while it is in the kernel), or of what no signal reaches."""


class StillRunning(MachineUnusable):
    """Another attempt at the job has its folder. Later, or on another machine, this one goes on."""


@dataclass(frozen=True)
class _Holder:
    """Who holds a job on this machine. process tells it from every other process of every machine."""

    run_id: str
    attempt: int
    pid: int
    process: str

    @classmethod
    def read(cls, descriptor: int) -> _Holder | None:
        """Read who holds the locked file; None where nobody has written itself into it yet."""
        try:
            return cls(**json.loads(os.pread(descriptor, 4096, 0)))
        except (ValueError, TypeError):
            return None

    def write(self, descriptor: int) -> None:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(asdict(self)).encode(), 0)

    def kill(self) -> None:
        """SIGKILL, unless it is gone, on another machine or in another container."""
        with suppress(OSError):
            descriptor = os.pidfd_open(self.pid)  # from here on the number means this process alone
            try:
                if _identity(self.pid) == self.process:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            finally:
                os.close(descriptor)


@contextmanager
def sole_attempt(locks: Path, job_id: str, run_id: str, attempt: int) -> Iterator[None]:
    """Hold the job on this machine until the block ends. Whoever calls this owns the job's row.

    An older attempt that still holds it is killed. What it has started holds the job too; its watchdog kills
    that. Raises StillRunning where one of them is left after a minute, or a newer attempt holds the job.
    """
    path = make_trusted_folder(locks) / job_id
    own = _Holder(run_id, attempt, os.getpid(), _identity(os.getpid()))
    descriptor = _lock(path, own)
    try:
        own.write(descriptor)
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path, own: _Holder) -> int:
    """Open the file and lock it."""
    deadline, killed = time.monotonic() + _WAIT_SECONDS, None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        if _try_lock(descriptor, path):
            return descriptor
        holder = _Holder.read(descriptor)
        os.close(descriptor)
        if holder is not None and holder != killed:
            _end(holder, own)
            killed = holder
        if time.monotonic() > deadline:
            whom = f"Attempt {holder.attempt} (process {holder.pid})" if holder else "Another attempt"
            raise StillRunning(f"{whom} at this job still works in the same folder, and does not end")
        time.sleep(0.1)


def _try_lock(descriptor: int, path: Path) -> bool:
    """Whether the file is locked now, and still the one that everybody else opens."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _end(holder: _Holder, own: _Holder) -> None:
    """Kill the holder, unless it has more right to the job."""
    if holder.run_id == own.run_id and holder.attempt >= own.attempt:
        raise StillRunning(f"Attempt {holder.attempt} (process {holder.pid}) at this job works already")
    log.warning(
        "Attempt %d (process %d) still works at this job on this machine, though Airflow has begun this one "
        "in its place. Killing it.",
        holder.attempt,
        holder.pid,
    )
    holder.kill()


def _identity(pid: int) -> str:
    """Say when this machine was started, in which container this process is, and when that one was started.

    Read from /proc/self and not from the other's folder: Airflow makes its tasks undumpable, which hides most
    of that folder even from the same user. A holder in another container has written another one here.
    """
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    return f"{boot} {Path('/proc/self/ns/pid').readlink()} {started}"

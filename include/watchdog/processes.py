"""The processes of an attempt: listing them, describing their state, and killing them."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from include.training.stacks import MAIN_STACK_SIGNAL, STACKS_SIGNAL, locate_stacks_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_STACKS_SECONDS = {STACKS_SIGNAL: 1.0, MAIN_STACK_SIGNAL: 3.0}
"""Time limits for a process to write its stack traces; this takes milliseconds, unless the machine swaps."""

_GIB = 2**30

_STATES = {
    psutil.STATUS_STOPPED: "stopped (SIGSTOP)",
    psutil.STATUS_TRACING_STOP: "stopped by a debugger",
    psutil.STATUS_DISK_SLEEP: "in the kernel, where no signal reaches it (a disk, a network file system or a "
    "driver that does not respond)",
    psutil.STATUS_ZOMBIE: "dead",
    psutil.STATUS_RUNNING: "running",
    psutil.STATUS_SLEEPING: "waiting",
}


@dataclass(frozen=True)
class Member:
    """One process of an attempt."""

    process: psutil.Process
    """The process, which may have ended by now."""
    role: str
    """A description of the process for people, such as "rank 1"."""

    def __str__(self) -> str:
        return f"{self.role} (process {self.process.pid})"

    @property
    def is_stopped(self) -> bool:
        """Whether a signal or a debugger has stopped the process."""
        return self._read_status() in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}

    @property
    def is_stuck(self) -> bool:
        """Whether the state of this process alone can explain a hang."""
        return self.is_stopped or self._read_status() == psutil.STATUS_DISK_SLEEP

    @property
    def state(self) -> str:
        """The state of the process, according to the kernel."""
        status = self._read_status()
        return _STATES.get(status, status)

    def describe(self) -> str:
        """Describe the process on one line: state, kernel function, memory and CPU time."""
        try:
            with self.process.oneshot():
                memory = self.process.memory_info().rss / _GIB
                times = self.process.cpu_times()
        except psutil.Error:
            return f"{self}: {self.state}"
        where = _read_kernel_function(self.process.pid)
        waiting = f" in {where}" if where else ""
        used = times.user + times.system
        return f"{self}: {self.state}{waiting}; {memory:.1f} GiB, {used:.0f} s of CPU time"

    def read_stacks(self, folder: Path) -> str:
        """Make the process write the stack traces of its threads, and return them.

        A stopped process is resumed to do so. Returns "" for a process that has no handler for the
        signal, is stuck in the kernel, or takes too long.
        """
        path, pid = locate_stacks_file(folder, self.process.pid), self.process.pid
        with suppress(ProcessLookupError):
            for number, seconds in _STACKS_SECONDS.items():
                if not path.exists() or not _handles_signal(pid, number):
                    break
                _signal_main_thread(pid, number)
                os.kill(pid, signal.SIGCONT)
                if stacks := _read_when_complete(path, seconds):
                    return stacks
        return ""

    def stop(self) -> None:
        """Stop the process (SIGSTOP), if it still exists."""
        with suppress(psutil.Error):
            self.process.suspend()

    def _read_status(self) -> str:
        try:
            return self.process.status()
        except psutil.Error:
            return psutil.STATUS_ZOMBIE


def list_members(root: psutil.Process, ranks: Mapping[int, int]) -> list[Member]:
    """List the trainer and its descendants, such as ranks and loader workers.

    `ranks` maps process ids to ranks. The watchdog, which is this process, and its children are omitted.
    """
    found = [Member(root, "the trainer")]
    own = os.getpid()
    for process in _list_children(root):
        if process.pid == own:
            continue
        if process.pid in ranks:
            found.append(Member(process, f"rank {ranks[process.pid]}"))
            role = f"a loader worker of rank {ranks[process.pid]}"
        else:
            found.append(Member(process, _describe_role(process, root, "a loader worker")))
            role = "a child process of a loader worker"
        children = _list_children(process, recursive=True)
        found += [Member(child, _describe_role(child, process, role)) for child in children]
    return found


def kill_all(attempt: Sequence[Member], groups: Sequence[int]) -> None:
    """Send SIGKILL to all processes of an attempt, in reverse order, and to its ranks' process groups.

    All processes are stopped first; otherwise the trainer would notice the death of a worker and report it as
    an error.
    """
    for member in reversed(attempt):
        member.stop()
    for member in reversed(attempt):
        with suppress(psutil.Error):
            member.process.kill()
        if member.process.pid in groups:
            kill_group(member.process.pid)


def kill_group(leader: int) -> None:
    """Send SIGKILL to the remaining processes of the group that `leader` leads or led."""
    if leader != os.getpgrp():
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def is_group_leader(pid: int) -> bool:
    """Return whether the process leads a process group.

    The process of an Airflow task does, and its group contains only the task's descendants.
    """
    try:
        return os.getpgid(pid) == pid
    except ProcessLookupError:
        return False


def _list_children(process: psutil.Process, *, recursive: bool = False) -> list[psutil.Process]:
    try:
        return process.children(recursive=recursive)
    except psutil.Error:
        return []


def _describe_role(process: psutil.Process, parent: psutil.Process, forked: str) -> str:
    """Describe a child process by its command, or as `forked` if its parent has the same command line."""
    try:
        command = process.cmdline()
        return forked if command == parent.cmdline() else " ".join(command)[:100] or process.name()
    except psutil.Error:
        return "a process that has ended"


def _read_kernel_function(pid: int) -> str:
    try:
        name = Path(f"/proc/{pid}/wchan").read_text()
    except OSError:
        return ""
    return "" if name == "0" else name


def _handles_signal(pid: int, number: int) -> bool:
    """Return whether the process handles the signal: without a handler, the signal would kill it."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    caught = next((line.split()[1] for line in lines if line.startswith("SigCgt:")), "0")
    return bool(int(caught, 16) >> (number - 1) & 1)


def _signal_main_thread(pid: int, number: int) -> None:
    """Send a signal that only the main thread handles; any thread may, if the C library lacks tgkill.

    Raises ProcessLookupError.
    """
    tgkill = getattr(ctypes.CDLL(None), "tgkill", None)
    if tgkill is None:
        os.kill(pid, number)
    elif tgkill(pid, pid, number):
        raise ProcessLookupError(pid)


def _read_when_complete(path: Path, seconds: float) -> str:
    """Return the content of the file once it has stopped growing, or after `seconds`."""
    deadline, size = time.monotonic() + seconds, 0
    while time.monotonic() < deadline:
        time.sleep(0.1)
        new_size = path.stat().st_size
        if new_size and new_size == size:
            break
        size = new_size
    return path.read_text(errors="replace").strip()

"""Which processes belong to a service, also after the one that was started has died."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from include.stack.processes import Service

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def start_of(process: psutil.Process) -> str:
    """Return what tells a process from a later one of its number, even when the clock is set.

    Raises psutil.NoSuchProcess.
    """
    try:
        ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{_BOOT.read_text().strip()}:{ticks}"
    except FileNotFoundError:  # no Linux, or no such process
        return str(process.create_time())


@dataclass(frozen=True)
class Remembered:
    """What a pid file says."""

    pid: int
    started: str
    is_stopping: bool

    @classmethod
    def read(cls, pid_file: Path) -> Remembered | None:
        """None where the service was never started, or was stopped."""
        try:
            pid, started, *stopping = pid_file.read_text().split()
            return cls(int(pid), started, bool(stopping))
        except (FileNotFoundError, ValueError):
            return None

    def process(self) -> psutil.Process | None:
        """Return the process if it lives."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if start_of(process) == self.started and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def is_pid_used_again(self) -> bool:
        """Whether another process has it: then nothing is left of the session, which kept it taken."""
        with suppress(psutil.NoSuchProcess):
            return start_of(psutil.Process(self.pid)) != self.started
        return False


@dataclass(frozen=True)
class Family:
    """Processes of a service.

    asked get the stop signal, and tell the others. awaited have work to end.
    """

    members: tuple[psutil.Process, ...]
    asked: tuple[psutil.Process, ...]
    awaited: tuple[psutil.Process, ...]


def family_of(service: Service) -> Family:
    """Find the service's process and what it has started, even if it is dead itself."""
    remembered = Remembered.read(service.pid_file)
    if remembered is None:
        return Family((), (), ())
    head = remembered.process()
    session = None if remembered.is_pid_used_again() else remembered.pid
    left = {each for each in psutil.process_iter() if _is_child(each, service, session)}
    if head is None:
        pids = {each.pid for each in left}
        eldest = tuple(each for each in left if _parent(each) not in pids)
        # Executor workers without a task would wait for ever for their scheduler.
        return Family(tuple(left), eldest, tuple(left.difference(eldest)))
    told = _children(head, recursive=False) if service.stops_children else []
    members = left.union(_children(head)) - _of_other_services(service)
    return Family((head, *members), (head, *told), (head,))


def _of_other_services(service: Service) -> set[psutil.Process]:
    """Return what must not be stopped with this one.

    The supervisor is the parent of what it has started again.
    """
    files = set(service.pid_file.parent.glob("*.pid")) - {service.pid_file}
    heads = [remembered.process() for file in files if (remembered := Remembered.read(file))]
    return {each for head in heads if head for each in (head, *_children(head))}


def _is_child(process: psutil.Process, service: Service, session: int | None) -> bool:
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        if process.pid == session or process.status() == psutil.STATUS_ZOMBIE:
            return False
        if os.getsid(process.pid) == session:
            return _works_in(process, service.directory)
        if service.children_work_in:
            return process.name() == Path(service.command[0]).name and _works_in(
                process, service.children_work_in
            )
    return False


def _works_in(process: psutil.Process, folder: Path) -> bool:
    """Whether it may be the service's: a session has the number of a process, and numbers are used again."""
    try:
        return Path(process.cwd()).is_relative_to(folder.resolve())
    except psutil.AccessDenied:
        # Airflow hides its tasks from everybody but root.
        return process.uids().real == os.getuid()


def _children(process: psutil.Process, *, recursive: bool = True) -> list[psutil.Process]:
    try:
        return process.children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []


def _parent(process: psutil.Process) -> int | None:
    with suppress(psutil.NoSuchProcess):
        return process.ppid()
    return None

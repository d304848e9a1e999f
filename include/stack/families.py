"""Finds the processes of a service, even after its main process has died."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from include.stack.errors import StackError

if TYPE_CHECKING:
    from include.stack.processes import Service

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def identify_start(process: psutil.Process) -> str:
    """Return an identifier that distinguishes the process from later ones with the same pid.

    The identifier does not change when the clock is set. Raises psutil.NoSuchProcess.
    """
    try:
        ticks = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{_BOOT.read_text().strip()}:{ticks}"
    except (FileNotFoundError, ProcessLookupError):  # no such process, or a kernel without these files
        return str(process.create_time())


class PidFileDamaged(StackError):
    """The pid file does not identify the service's process, so the service cannot be started or stopped."""


@dataclass(frozen=True)
class PidFile:
    """The content of a pid file."""

    pid: int
    """Process id of the service's main process."""
    started: str
    """What `identify_start` returned for the process; in a file of version 0.1.0, its `create_time`."""
    is_stopping: bool
    """Whether the service is being stopped."""

    @classmethod
    def read(cls, pid_file: Path) -> PidFile | None:
        """Read the file. Returns None if the service was never started, or has been stopped.

        Raises PidFileDamaged.
        """
        try:
            pid, started, *stopping = pid_file.read_text().split()
            if int(pid) > 0:
                return cls(int(pid), started, bool(stopping))
        except FileNotFoundError:
            return None
        except ValueError:
            pass
        raise PidFileDamaged(
            f"{pid_file} does not contain the process id and start time of {pid_file.stem}. Stop its process "
            "if `ps -ef` shows one, and remove the file."
        )

    def find_process(self) -> psutil.Process | None:
        """Return the process if it is alive."""
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.pid)
            if self._names(process) and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def is_pid_reused(self) -> bool:
        """Return whether a later process has the pid.

        If so, no process is left in the session that the service led: the kernel does not reuse the id of a
        session.
        """
        with suppress(psutil.NoSuchProcess):
            return not self._names(psutil.Process(self.pid))
        return False

    def _names(self, process: psutil.Process) -> bool:
        return self.started in {identify_start(process), str(process.create_time())}


@dataclass(frozen=True)
class Family:
    """The processes of a service."""

    members: tuple[psutil.Process, ...]
    """All of the processes."""
    signalled: tuple[psutil.Process, ...]
    """Processes that get the stop signal, and pass it on to the rest."""
    awaited: tuple[psutil.Process, ...]
    """Processes that have work to finish before they end."""


def find_family(service: Service) -> Family:
    """Find the service's process and its children, even if the process itself is dead.

    Raises PidFileDamaged.
    """
    remembered = PidFile.read(service.pid_file)
    if remembered is None:
        return Family((), (), ())
    head = remembered.find_process()
    session = None if remembered.is_pid_reused() else remembered.pid
    left = {process for process in psutil.process_iter() if _is_child(process, service, session)}
    if head is None:
        pids = {process.pid for process in left}
        eldest = tuple(process for process in left if _find_parent_pid(process) not in pids)
        # Do not wait for the eldest survivors: executor workers that have no task would wait forever for
        # their dead scheduler.
        return Family(tuple(left), eldest, tuple(left.difference(eldest)))
    signalled = _list_children(head, recursive=False) if service.stops_children else []
    members = left.union(_list_children(head)) - _find_processes_of_other_services(service)
    return Family((head, *members), (head, *signalled), (head,))


def _find_processes_of_other_services(service: Service) -> set[psutil.Process]:
    """Return the processes that must not be stopped with this service.

    When the supervisor is stopped, the services that it has restarted are among its children.
    """
    files = set(service.pid_file.parent.glob("*.pid")) - {service.pid_file}
    heads = [remembered.find_process() for file in files if (remembered := PidFile.read(file))]
    return {process for head in heads if head for process in (head, *_list_children(head))}


def _is_child(process: psutil.Process, service: Service, session: int | None) -> bool:
    with suppress(ProcessLookupError, psutil.NoSuchProcess):
        if process.pid == session or process.status() == psutil.STATUS_ZOMBIE:
            return False
        if os.getsid(process.pid) == session:
            return _works_in(process, service.children_directory or service.directory)
        if service.children_directory:
            return process.name() == Path(service.command[0]).name and _works_in(
                process, service.children_directory
            )
    return False


def _works_in(process: psutil.Process, folder: Path) -> bool:
    """Return whether the process works in `folder`, or may do so.

    A session id alone does not prove that a process belongs to the service, because pids are reused.
    """
    try:
        return Path(process.cwd()).is_relative_to(folder.resolve())
    except psutil.AccessDenied:
        # Only root can read the working directory of Airflow's tasks.
        return process.uids().real == os.getuid()


def _list_children(process: psutil.Process, *, recursive: bool = True) -> list[psutil.Process]:
    try:
        return process.children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []


def _find_parent_pid(process: psutil.Process) -> int | None:
    with suppress(psutil.NoSuchProcess):
        return process.ppid()
    return None

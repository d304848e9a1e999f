"""Detached server processes, remembered by pid file and stopped by pid, with whatever they have started."""

from __future__ import annotations

import fcntl
import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import psutil

from include.stack.errors import StackError, last_lines
from include.stack.families import Remembered, family_of, start_of
from include.stack.private_files import UMASK, private_folder

STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Service:
    """One server process.

    environment is the whole environment of the process. Secrets go there or into files, never into the
    command, which every user of the machine can read with ps. user is whom to run as, if not as ourselves.
    It has stop_seconds to stop before it is killed. Where stops_children is set, its children get the stop
    signal too: it would wait for the end of what they do. Children are told by the session of the process
    that started them, also when it is dead; those that begin sessions of their own are told by the folder
    children_work_in.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    state: Path
    stop_signal: signal.Signals = signal.SIGTERM
    user: str | None = field(default=None)
    stop_seconds: float = STOP_SECONDS
    stops_children: bool = False
    children_work_in: Path | None = None

    @property
    def log(self) -> Path:
        """Where stdout and stderr of the process go."""
        return self.state / "logs" / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """Holds the pid and the start time of the process, since pids are used again.

        A third word says that the service is being stopped. The file goes when nothing of it is left.
        """
        return self.state / "pids" / f"{self.name}.pid"


def running(service: Service) -> psutil.Process | None:
    """Return the service's process, or None when it does not run."""
    remembered = Remembered.read(service.pid_file)
    return remembered.process() if remembered else None


def has_died(service: Service) -> bool:
    """Whether it was started, and ended though nobody stopped it."""
    remembered = Remembered.read(service.pid_file)
    return remembered is not None and not remembered.is_stopping and remembered.process() is None


def start(service: Service) -> psutil.Process:
    """Start the service detached from this terminal, or return the process that runs already.

    What an earlier process of it left behind is stopped first.
    """
    with _alone(service):
        present = running(service)
        if present is None:
            _end([service])
            return _start(service)
        _remember(service, present)
        return present


def revive(service: Service) -> bool:
    """Start the service again if it has died. Returns whether it had."""
    with _alone(service):
        if not has_died(service):
            return False
        _end([service])
        _start(service)
        return True


def _start(service: Service) -> psutil.Process:
    private_folder(service.log.parent)
    with service.log.open("ab") as log:
        child = subprocess.Popen(
            service.command,
            env=dict(service.environment),
            cwd=service.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=UMASK,
            **as_user(service.user),
        )
    process = psutil.Process(child.pid)
    _remember(service, process)
    # The server outlives this program; without this Python warns that it was never waited for.
    child.returncode = 0
    return process


def wait_until_ready(service: Service, ready: Callable[[], bool], seconds: float) -> None:
    """Wait until `ready()`.

    Raises StackError with the end of the service's log when it ends, or is not ready after `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if running(service) is None:
            raise StackError(_complaint(service, "ended while it was starting"))
        if time.monotonic() > deadline:
            raise StackError(_complaint(service, f"was not ready after {seconds:.0f} seconds"))
        time.sleep(0.1)


def stop(service: Service) -> bool:
    """Stop the service and its children. Returns whether anything of it was running."""
    return stop_all([service])


def stop_all(services: Sequence[Service]) -> bool:
    """Stop them together: a polite signal, then SIGKILL. Returns whether anything of them was running.

    That includes what a process that is dead by now has left behind.
    """
    for service in services:
        with _alone(service):
            _announce_stop(service)
    was_running = _end(services)
    for service in services:
        service.pid_file.unlink(missing_ok=True)
    return was_running


def _end(services: Sequence[Service]) -> bool:
    families = [(service, family) for service in services if (family := family_of(service)).members]
    for service, family in families:
        for each in family.asked:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(service.stop_signal)
    seconds = max((service.stop_seconds for service, _ in families), default=0.0)
    psutil.wait_procs([each for _, family in families for each in family.awaited], timeout=seconds)
    # Children end with their parents, or shortly after. Some were started only now.
    members = {each for service, family in families for each in family.members + family_of(service).members}
    _, survivors = psutil.wait_procs(members, timeout=1)
    for survivor in survivors:
        with suppress(psutil.NoSuchProcess):
            survivor.kill()
    psutil.wait_procs(survivors, timeout=5)
    return bool(families)


def _remember(service: Service, process: psutil.Process) -> None:
    service.pid_file.write_text(f"{process.pid} {start_of(process)}\n")


def _announce_stop(service: Service) -> None:
    if remembered := Remembered.read(service.pid_file):
        service.pid_file.write_text(f"{remembered.pid} {remembered.started} stopping\n")


@contextmanager
def _alone(service: Service) -> Iterator[None]:
    """One start or stop of a service at a time."""
    lock = private_folder(service.pid_file.parent.parent / "locks") / service.name
    private_folder(service.pid_file.parent)
    with lock.open("w") as file:
        lock.chmod(0o600)  # whoever can read it can hold it
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Identity(TypedDict, total=False):
    """The arguments of subprocess that say as whom a program runs."""

    user: int
    group: int
    extra_groups: list[int]


def as_user(user: str | None) -> Identity:
    """Run as `user`, with that user's own group only; None runs as whoever we are."""
    if user is None:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def base_environment() -> dict[str, str]:
    """Return this process' environment for a server, without what would slow it down or confuse it."""
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONSTARTUP", "VIRTUAL_ENV", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def _complaint(service: Service, what: str) -> str:
    tail = last_lines(service.log)
    return f"{service.name} {what}. Its log is {service.log}" + (f" and ends with:\n{tail}" if tail else ".")

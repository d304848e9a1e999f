"""Detached server processes, remembered by pid file and stopped by pid."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import psutil

from include.stack.errors import StackError, last_lines
from include.stack.private_files import UMASK, private_folder

STOP_SECONDS = 20.0


@dataclass(frozen=True)
class Service:
    """One server process.

    environment is the whole environment of the process. Secrets go there or into files, never into the
    command, which every user of the machine can read with ps. user is whom to run as, if not as ourselves.
    It has stop_seconds to stop before it is killed. Where stops_children is set, its children get the stop
    signal too: it would wait for the end of what they do.
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

    @property
    def log(self) -> Path:
        """Where stdout and stderr of the process go."""
        return self.state / "logs" / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """Holds the pid and the start time of the process, since pids are used again."""
        return self.state / "pids" / f"{self.name}.pid"


def running(service: Service) -> psutil.Process | None:
    """The service's process, or None when it does not run."""
    try:
        pid, started = service.pid_file.read_text().split()
        process = psutil.Process(int(pid))
        alive = process.create_time() == float(started) and process.status() != psutil.STATUS_ZOMBIE
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None
    return process if alive else None


def start(service: Service) -> psutil.Process:
    """Start the service detached from this terminal, or return the process that runs already."""
    present = running(service)
    if present is not None:
        return present
    for folder in (service.log.parent, service.pid_file.parent):
        private_folder(folder)
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
    service.pid_file.write_text(f"{child.pid} {process.create_time()}\n")
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
    """Stop the service and its children. Returns whether it was running."""
    return stop_all([service])


def stop_all(services: Sequence[Service]) -> bool:
    """Stop them together: a polite signal, then SIGKILL. Returns whether any was running."""
    present = [(service, process) for service in services if (process := running(service))]
    family = [each for _, process in present for each in (process, *_children(process))]
    for service, process in present:
        asked = [process, *(_children(process, recursive=False) if service.stops_children else [])]
        for each in asked:
            with suppress(psutil.NoSuchProcess):
                each.send_signal(service.stop_signal)
    seconds = max((service.stop_seconds for service, _ in present), default=0.0)
    psutil.wait_procs([process for _, process in present], timeout=seconds)
    # Children end with their parents, or shortly after.
    _, survivors = psutil.wait_procs(family, timeout=1)
    for survivor in survivors:
        with suppress(psutil.NoSuchProcess):
            survivor.kill()
    psutil.wait_procs(survivors, timeout=5)
    for service in services:
        service.pid_file.unlink(missing_ok=True)
    return bool(present)


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
    """This process' environment for a server, without what would slow it down or confuse it."""
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONSTARTUP", "VIRTUAL_ENV", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    return {name: value for name, value in os.environ.items() if name not in unwanted}


def _children(process: psutil.Process, *, recursive: bool = True) -> list[psutil.Process]:
    try:
        return process.children(recursive=recursive)
    except psutil.NoSuchProcess:
        return []


def _complaint(service: Service, what: str) -> str:
    tail = last_lines(service.log)
    return f"{service.name} {what}. Its log is {service.log}" + (f" and ends with:\n{tail}" if tail else ".")

"""Detached server processes, tracked by pid files, and stopped together with their children."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import psutil

from include.stack.errors import StackError, read_last_lines
from include.stack.families import PidFile, PidFileDamaged, find_family, identify_start
from include.stack.private_files import UMASK, hold_lock, make_private_folder, write_private

STOP_SECONDS = 20.0

_RUN_WHEN_RECORDED = ("/bin/sh", "-c", 'read -r line && exec "$@" </dev/null', "sh")
"""Runs a program, in the same process, once a line arrives on stdin; ends if stdin is closed instead."""


@dataclass(frozen=True)
class Service:
    """One server process.

    The children of the process are recognised by their session and their working directory, even after the
    process has died.
    """

    name: str
    """Name of the service, and of its log, its pid file and its lock."""
    command: tuple[str, ...]
    """Program and arguments, without secrets: every user of the machine can read them with ps."""
    environment: Mapping[str, str]
    """The complete environment of the process. Put secrets here or in files."""
    directory: Path
    """Working directory of the process, and of its children unless `children_directory` is set."""
    state: Path
    """Folder of the log, the pid file and the lock."""
    stop_signal: signal.Signals = signal.SIGTERM
    """The signal that asks the service to end."""
    user: str | None = None
    """Account to run as; None for the current account."""
    stop_seconds: float = STOP_SECONDS
    """How long the service may take to stop before it is killed."""
    stops_children: bool = False
    """Whether the children also get the stop signal. If not, the process passes it on or waits for them."""
    children_directory: Path | None = None
    """The folder in which all children work. Set only if children may leave the session of the process."""
    before_start: Callable[[], None] | None = None
    """Called before each start, including restarts by the supervisor."""

    @property
    def log(self) -> Path:
        """The file for stdout and stderr of the process."""
        return self.state / "logs" / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """The file with the pid of the process and, because pids are reused, its start time.

        A third word means that the service is being stopped. The file is removed when all of the service's
        processes have ended.
        """
        return self.state / "pids" / f"{self.name}.pid"


def find_process(service: Service) -> psutil.Process | None:
    """Return the service's process, or None if it is not running. Raises PidFileDamaged."""
    remembered = PidFile.read(service.pid_file)
    return remembered.find_process() if remembered else None


def has_died(service: Service) -> bool:
    """Return whether the service was started and has ended without being stopped.

    Returns False if the pid file is damaged, because the service may be running.
    """
    try:
        remembered = PidFile.read(service.pid_file)
    except PidFileDamaged:
        return False
    return remembered is not None and not remembered.is_stopping and remembered.find_process() is None


def start(service: Service) -> psutil.Process:
    """Start the service detached from this terminal, or return its running process.

    Remaining children of an earlier process are stopped first. A stop that was interrupted is also finished
    first, because the process may still be ending. Raises PidFileDamaged.
    """
    with _lock(service):
        remembered = PidFile.read(service.pid_file)
        process = remembered.find_process() if remembered and not remembered.is_stopping else None
        if process is None:
            _end([service])
            return _start(service)
        return process


def revive(service: Service) -> bool:
    """Restart the service if it has died. Returns whether it had died."""
    with _lock(service):
        if not has_died(service):
            return False
        _end([service])
        _start(service)
        return True


def _start(service: Service) -> psutil.Process:
    """Start the service once its pid file is written: without the file, nothing would ever stop it.

    If this program is killed before that, or the disk is full, the service does not start. Raises StackError
    if its program is missing.
    """
    if shutil.which(service.command[0]) is None:
        raise StackError(f"{service.command[0]} is missing or cannot be run. Run `make setup`.")
    if service.before_start:
        service.before_start()
    make_private_folder(service.log.parent)
    with service.log.open("ab") as log:
        child = subprocess.Popen(
            (*_RUN_WHEN_RECORDED, *service.command),
            env=dict(service.environment),
            cwd=service.directory,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            umask=UMASK,
            **as_user(service.user),
        )
    process = psutil.Process(child.pid)
    assert child.stdin is not None  # noqa: S101 - it is a pipe
    try:
        write_private(service.pid_file, f"{process.pid} {identify_start(process)}\n")
        with suppress(BrokenPipeError), child.stdin as stdin:
            stdin.write(b"\n")
    except BaseException:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    # The server outlives this program. Without a return code, Python would warn about a running subprocess.
    child.returncode = 0
    return process


def wait_until_ready(service: Service, ready: Callable[[], bool], seconds: float) -> None:
    """Wait until `ready()` returns True.

    Wait for a service that was already running, too: it may have just restarted, or an earlier start may have
    been interrupted. Raises StackError with the end of the log if the service ends, or is not ready after
    `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not ready():
        if find_process(service) is None:
            raise StackError(_describe_failure(service, "ended during startup"))
        if time.monotonic() > deadline:
            raise StackError(_describe_failure(service, f"was not ready after {seconds:.0f} seconds"))
        time.sleep(0.1)


def stop(*services: Service) -> bool:
    """Stop the services together, with their children. Returns whether any process was running.

    Their processes get the stop signal first, and SIGKILL after the longest of their stop_seconds. Children
    of processes that have already died are also stopped, and count as running. Raises PidFileDamaged.
    """
    for service in services:
        # On a full disk, the pid file cannot be updated; the services are stopped anyway.
        with _lock(service), suppress(OSError):
            if remembered := PidFile.read(service.pid_file):
                write_private(service.pid_file, f"{remembered.pid} {remembered.started} stopping\n")
    was_running = _end(services)
    for service in services:
        # A process that waits for a disk survives even SIGKILL. Its pid file is kept, so that the next stop
        # can end the process.
        if not find_family(service).members:
            service.pid_file.unlink(missing_ok=True)
    return was_running


def _end(services: Sequence[Service]) -> bool:
    families = [(service, family) for service in services if (family := find_family(service)).members]
    for service, family in families:
        for process in family.signalled:
            with suppress(psutil.NoSuchProcess):
                process.send_signal(service.stop_signal)
    seconds = max((service.stop_seconds for service, _ in families), default=0.0)
    _wait_for_end((process for _, family in families for process in family.awaited), seconds)
    # Children end with their parents, or shortly after. New children may have been started in the meantime.
    members = {
        process for service, family in families for process in family.members + find_family(service).members
    }
    survivors = _wait_for_end(members, 1)
    for survivor in survivors:
        with suppress(psutil.NoSuchProcess):
            survivor.kill()
    _wait_for_end(survivors, 5)
    return bool(families)


def _wait_for_end(awaited: Iterable[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until the processes have ended, and return those that have not after `seconds`.

    psutil.wait_procs would also wait until they are reaped, which process 1 of some containers never does.
    """
    deadline = time.monotonic() + seconds
    running = list(awaited)
    while running := [process for process in running if not has_ended(process)]:
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return running


def has_ended(process: psutil.Process) -> bool:
    """Return whether the process has ended, even if nobody has reaped it yet."""
    try:
        if process.status() != psutil.STATUS_ZOMBIE:
            return not process.is_running()
        if process.num_threads() > 1:  # its first thread has ended; the others still hold its ports
            return False
        with suppress(psutil.TimeoutExpired):
            process.wait(timeout=0)  # reaps a child of this process
    except psutil.NoSuchProcess:
        pass
    return True


def _lock(service: Service) -> AbstractContextManager[None]:
    """Allow one start or stop of a service at a time."""
    make_private_folder(service.pid_file.parent)
    return hold_lock(make_private_folder(service.state / "locks") / service.name)


class Identity(TypedDict, total=False):
    """The arguments of subprocess that set the account of a program."""

    user: int
    """User id; the program keeps the current user if it is missing."""
    group: int
    """Group id of the user."""
    extra_groups: list[int]
    """Supplementary groups; always empty."""


def as_user(user: str | None) -> Identity:
    """Return the arguments of subprocess that run a program as `user`, without supplementary groups.

    None means the current user.
    """
    if user is None:
        return {}
    account = pwd.getpwnam(user)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def build_base_environment(*foreign: str) -> dict[str, str]:
    """Return this process's environment without variables that would affect a server.

    Variables whose names start with one of the prefixes in `foreign` are also omitted, and so are SOCKS
    proxies: with one, httpx refuses to connect even to an address that needs no proxy, and so no task could
    start. (https://www.python-httpx.org/advanced/proxies/#socks)
    """
    unwanted = ("PYTHONDONTWRITEBYTECODE", "PYTHONSTARTUP", "VIRTUAL_ENV", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in unwanted and not name.startswith(foreign) and not _is_socks_proxy(name, value)
    }


def _is_socks_proxy(name: str, value: str) -> bool:
    return name.lower().endswith("_proxy") and value.strip().lower().startswith("socks")


def _describe_failure(service: Service, what: str) -> str:
    tail = read_last_lines(service.log)
    return f"{service.name} {what}. Its log is {service.log}" + (f" and ends with:\n{tail}" if tail else ".")

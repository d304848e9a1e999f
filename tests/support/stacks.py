"""Stacks for the tests: functions that create, start, inspect and stop them."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from include.stack import processes
from include.stack.local import Stack
from include.stack.steps import Steps
from tests.support.soft_limit import soft_limit

if TYPE_CHECKING:
    from include.stack.processes import Service
    from tests.support.release_server import Release

UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


@contextmanager
def reachable_directory() -> Iterator[Path]:
    """Yield a folder for servers' data that PostgreSQL's user can reach; pytest's own folders are private."""
    directory = Path(tempfile.mkdtemp(prefix="yolo-training-tests-"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        # In the background, because removing PostgreSQL's files takes seconds on some disks.
        remove = 'rm -rf "$1" </dev/null >/dev/null 2>&1 &'
        subprocess.run(["sh", "-c", remove, "sh", directory], start_new_session=True, check=True)


@contextmanager
def own_stack() -> Iterator[Stack]:
    """Yield an empty stack that a test may stop and start; Airflow is not running yet."""
    with reachable_directory() as directory:
        stack = Stack.at(directory, UNSAFE_BUT_FAST)
        try:
            stack.start_servers(Steps.quiet())
            yield stack
        finally:
            stack.down(Steps.quiet())


def start_airflow(stack: Stack, published: Release) -> None:
    """Start Airflow's processes, with the low limit of open files that most systems have.

    Pretrained weights are downloaded from `published`.
    """
    os.environ["PRETRAINED_URL"] = published.url  # also for services that a test restarts
    with soft_limit(resource.RLIMIT_NOFILE, min(1024, resource.getrlimit(resource.RLIMIT_NOFILE)[0])):
        stack.up(Steps.quiet())


def kill(*services: Service) -> None:
    """Kill the services; Airflow and S3 would take ten seconds to stop in the usual way."""
    processes.stop(
        *(replace(service, stop_signal=signal.SIGKILL, stops_children=True) for service in services)
    )


def keep_logs(stack: Stack) -> None:
    """Copy the logs of services and tasks to the folder TEST_LOGS, if set; CI uploads that folder."""
    if not (folder := os.environ.get("TEST_LOGS")):
        return
    destination = Path(folder) / os.environ.get("PYTEST_XDIST_WORKER", "main")
    for name, logs in {"services": stack.state.path / "logs", "tasks": stack.airflow.home / "logs"}.items():
        if logs.is_dir():
            shutil.copytree(logs, destination / name, dirs_exist_ok=True, ignore_dangling_symlinks=True)


def process_of(state: Path, service: str) -> psutil.Process:
    """Return the process of a service, such as "s3" or "scheduler", of the stack with that state folder."""
    return psutil.Process(int((state / "pids" / f"{service}.pid").read_text().split()[0]))


def processes_of(stack: Stack) -> list[psutil.Process]:
    """Return the processes of all services, each with its children."""
    parents = [process_of(stack.state.path, file.stem) for file in (stack.state.path / "pids").iterdir()]
    return [each for parent in parents for each in (parent, *parent.children(recursive=True))]

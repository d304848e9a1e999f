"""Starts the watchdog of an attempt."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from include.child_processes import add_project_to_path
from include.training.contract import ProcessKilled
from include.training.heartbeat import Heartbeats
from include.training.stacks import disable_stack_dumps, enable_stack_dumps
from include.trusted_folders import make_trusted_folder
from include.watchdog.memory import OomKills
from include.watchdog.traces import leave_trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from include.watchdog.watch import Limits

log = logging.getLogger(__name__)


@contextmanager
def watch_attempt(folder: Path, attempt: int, limits: Limits) -> Iterator[Heartbeats]:
    """Watch this process and its children until the block ends; yield the Heartbeats for training.

    The watchdog acts if one of these processes sends heartbeats and then hangs, or if this process is
    suspended for too long. It writes the reason to stderr and a Trace into `folder`, and kills all of them
    with SIGKILL. If this process is killed, the watchdog writes a Trace and kills the ranks and, if this
    process led a process group, the rest of the group. An earlier attempt's files in `folder` are removed.

    A Trace is also written when the block raises ProcessKilled, that is, when a child was killed. If memory
    has probably run out, the message of the exception is extended to say so.
    """
    make_trusted_folder(folder)  # before anything in it is removed
    shutil.rmtree(folder)
    make_trusted_folder(folder)
    enable_stack_dumps(folder)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "include.watchdog"),
            *(str(os.getpid()), str(folder), str(attempt), json.dumps(asdict(limits))),
        ],
        env=add_project_to_path(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # signals to this process's group must not reach it
    )
    try:
        with OomKills() as kills:
            yield Heartbeats(folder, limits.rank_timeout)
    except ProcessKilled as error:
        leave_trace(folder, attempt, kills, str(error))
        if not kills.has_killed:
            raise
        raise ProcessKilled(kills.explain(str(error))) from error
    finally:
        if process.poll() is not None:
            log.warning(
                "The watchdog of this attempt exited before the attempt did (status %d).", process.returncode
            )
        process.kill()
        process.wait()
        disable_stack_dumps()

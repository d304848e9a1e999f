"""Has an attempt watched by a process of its own."""

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

from include.python_path import with_this_project
from include.training.contract import ProcessKilled
from include.training.heartbeat import Heartbeats, disable_stack_dumps, enable_stack_dumps
from include.trusted_folders import make_trusted_folder
from include.watchdog.memory import OomKills
from include.watchdog.traces import bury

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from include.watchdog.limits import Limits

log = logging.getLogger(__name__)


@contextmanager
def watched(folder: Path, attempt: int, limits: Limits) -> Iterator[Heartbeats]:
    """Have this process and all that it starts watched until the block ends; give what a training needs.

    Where one of them hangs, the watchdog writes why to stderr and a Trace into `folder`, and kills all of
    them with SIGKILL. It does so to those that are left where this process is killed. It ends with this
    process, whatever becomes of it. What an earlier attempt left in `folder` is removed.

    A Trace is left, too, where ProcessKilled comes out of the block, of a process that this one has started.
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
        env=with_this_project(os.environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # what is sent to this process's group is not meant for it
    )
    kills = OomKills()
    try:
        yield Heartbeats(folder, limits.patience)
    except ProcessKilled as error:
        bury(folder, attempt, kills, str(error))
        raise
    finally:
        if process.poll() is not None:
            log.warning("The watchdog of this attempt ended before it (status %d).", process.returncode)
        process.kill()
        process.wait()
        disable_stack_dumps()

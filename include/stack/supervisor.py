"""Restarts services of the local stack that have died, and limits their logs, as Compose does.

The supervisor runs as a separate process: `python -m include.stack.supervisor STATE SETTINGS`. A service is
supervised from its start until somebody stops it; its pid file shows that it was stopped. If a service keeps
dying soon after its start, the pauses between restarts become longer. After several attempts, the supervisor
gives up until the next `make up`.

supervisord and circus are not used, because both supervise only their own children: if they died, all
services would have to be stopped, including training runs. This supervisor finds running services by their
pid files.
"""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from include.stack import processes
from include.stack.errors import StackError
from include.stack.restarts import Restarts, compute_pause

if TYPE_CHECKING:
    from include.stack.processes import Service
    from include.stack.restarts import History

log = logging.getLogger(__name__)

STEADY_SECONDS = 300.0
"""A service that has run this long is healthy again: its next death is counted as the first."""

CHECK_SECONDS = 1.0

LOG_BYTES = 20 * 10**6
"""Maximum size of a service's log. Airflow's processes write more than that in two days without any task."""


def restart_dead(
    services: Sequence[Service], history: History, pause: Callable[[int], float] = compute_pause
) -> None:
    """Restart the services that have died, after their pauses, unless they have died too often.

    `services` begins with those that others depend on.
    """
    recorded = history.read()
    for service in services:
        restarts, now = recorded.get(service.name, Restarts()), time.time()
        since_last = now - restarts.last
        if since_last < 0:
            since_last = math.inf  # the clock was set back, which must not lengthen a pause
        if processes.has_died(service):
            if not restarts.is_given_up and since_last >= pause(restarts.in_row):
                _revive(service, history, restarts, now)
        elif restarts.in_row and since_last > STEADY_SECONDS:
            history.note(service.name, replace(restarts, in_row=0))


def _revive(service: Service, history: History, before: Restarts, now: float) -> None:
    # The attempt is recorded first: if a full disk prevented the recording afterwards, there would be neither
    # pauses nor a limit.
    restarts = before.add_failure(now)
    history.note(service.name, restarts)
    try:
        has_died = processes.revive(service)
    except (OSError, StackError):
        log.exception("%s has died and could not be restarted.", service.name)
    else:
        restarts = before.add_one(now) if has_died else before
        history.note(service.name, restarts)
        if not has_died:
            return
        log.warning("%s has died: %s. Its log is %s.", service.name, restarts, service.log)
    if restarts.is_given_up:
        log.error(
            "%s died %d times in a row: if it dies again, it stays down until `make up`.",
            service.name,
            restarts.in_row,
        )


def limit_logs(services: Sequence[Service]) -> None:
    """Empty the logs that have become too long.

    What they contained is kept in files with the suffix .1, if the disk has room for them.
    """
    for service in services:
        with suppress(FileNotFoundError):
            if service.log.stat().st_size > LOG_BYTES:
                # The service keeps the file open, and appends to it.
                with suppress(OSError):
                    shutil.copyfile(service.log, f"{service.log}.1")
                os.truncate(service.log, 0)


def main() -> None:
    """Supervise the stack of the given state folder until SIGTERM."""
    from include.stack.local import Stack

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    stack = Stack.at(Path(sys.argv[1]), json.loads(sys.argv[2]))
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    while not stopped.wait(CHECK_SECONDS):
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        try:
            # The services are read again each time, because `make up` may have chosen other ports.
            services = stack.list_supervised()
            restart_dead(services, stack.restarts)
            limit_logs([*services, stack.supervisor])
        except Exception:
            # The disk may be full, for example. The supervisor itself must not die.
            log.exception("Checking again in %.0f s.", CHECK_SECONDS)


if __name__ == "__main__":
    main()

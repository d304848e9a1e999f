"""Watches the process that `watched` runs in: `python -m include.watchdog PID FOLDER ATTEMPT LIMITS`."""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from include.watchdog.gpu_state import gpu_state
from include.watchdog.limits import Limits
from include.watchdog.memory import OomKills
from include.watchdog.processes import kill_all, kill_group, leads_group, members
from include.watchdog.traces import HANG, Trace, bury
from include.watchdog.watch import LOOK_SECONDS, Watch

if TYPE_CHECKING:
    from include.watchdog.processes import Member
    from include.watchdog.watch import Hang

_REPORT_SECONDS = 120.0
"""For the report. Whoever reads the log may hang as well, and the attempt must end all the same."""


def main() -> None:
    """Watch until the parent dies, or until it hangs."""
    pid, folder, attempt = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    limits = Limits(**json.loads(sys.argv[4]))
    death = _Death(pid)
    if os.getppid() != pid:
        return  # it died before: whoever has adopted this process is not to be watched
    watchdog = _Watchdog(psutil.Process(pid), death, folder, attempt, limits)
    (folder / "watching").touch()
    watchdog.run()


class _Watchdog:
    def __init__(
        self, root: psutil.Process, death: _Death, folder: Path, attempt: int, limits: Limits
    ) -> None:
        self._root, self._folder, self._attempt = root, folder, attempt
        self._watch = Watch(root, folder, limits)
        self._oom_kills = OomKills()
        self._death = death

    def run(self) -> None:
        while not self._death.awaited(LOOK_SECONDS):
            hang = self._watch.look()
            if hang:
                self._end(hang)
                return
        self._bury()

    def _end(self, hang: Hang) -> None:
        """Say what is known of the hang, and kill the attempt."""
        ranks = self._watch.ranks()
        attempt = members(self._root, ranks)
        stuck = [f"{member} is {member.state}" for member in attempt if member.is_stuck]
        detail = "; ".join([hang.sentence, *stuck])
        Trace(self._attempt, HANG, detail, hang.epoch, hang.batch).write(self._folder)
        report = threading.Thread(target=_report, args=(detail, attempt, self._folder), daemon=True)
        report.start()
        report.join(_REPORT_SECONDS)
        kill_all(members(self._root, ranks), [*ranks])
        if self._death.led_group:
            kill_group(self._root.pid)
        os._exit(0)  # not held by a report that nobody reads

    def _bury(self) -> None:
        """Leave a trace of the parent, which was killed, and nothing else that it has started."""
        bury(self._folder, self._attempt, self._oom_kills, "It was killed")
        for rank in self._watch.ranks():
            kill_group(rank)
        if self._death.led_group:
            kill_group(self._root.pid)


class _Death:
    """Waits for a process to die. led_group tells whether it had a process group of its own."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._poll = select.poll()
        self._has_descriptor = hasattr(os, "pidfd_open")
        with suppress(ProcessLookupError):
            if self._has_descriptor:
                self._poll.register(os.pidfd_open(pid), select.POLLIN)
        self.led_group = leads_group(pid)

    def awaited(self, seconds: float) -> bool:
        """Wait so long; tell whether it is dead."""
        if self._has_descriptor:
            return bool(self._poll.poll(seconds * 1000))
        time.sleep(seconds)
        return os.getppid() != self._pid


def _report(detail: str, attempt: list[Member], folder: Path) -> None:
    _say(f"{detail}. This attempt hangs and is killed; the next one resumes from the last durable state.")
    running = [member for member in attempt if not member.is_stopped]
    for member in [*running, *(member for member in attempt if member.is_stopped)]:
        _say(f"--- {member.describe()}")
        _say(member.stacks(folder) or "(no stacks: it does not write any)")
    for line in gpu_state():
        _say(f"--- {line}")


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()

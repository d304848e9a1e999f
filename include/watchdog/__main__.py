"""Watch the process that called `watch_attempt`: `python -m include.watchdog PID FOLDER ATTEMPT LIMITS`."""

from __future__ import annotations

import json
import os
import select
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from include.watchdog.gpu_state import describe_gpus
from include.watchdog.memory import OomKills
from include.watchdog.processes import is_group_leader, kill_all, kill_group, list_members
from include.watchdog.traces import HANG, Trace, leave_trace
from include.watchdog.watch import CHECK_SECONDS, Limits, Watch

if TYPE_CHECKING:
    from include.watchdog.processes import Member
    from include.watchdog.watch import Hang

_REPORT_SECONDS = 120.0
"""Time limit for the report: the attempt must be killed even if the reader of the log hangs, too."""


def main() -> None:
    """Watch until the parent dies, or until its attempt hangs."""
    pid, folder, attempt = int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    limits = Limits(**json.loads(sys.argv[4]))
    death = _Death(pid)
    if os.getppid() != pid:
        return  # the parent has died already; the process that adopted this one must not be watched
    with OomKills() as kills:
        root = psutil.Process(pid)
        watchdog = _Watchdog(root, death, folder, attempt, Watch(root, folder, limits), kills)
        (folder / "watching").touch()
        watchdog.run()


@dataclass(frozen=True)
class _Watchdog:
    root: psutil.Process
    """The process that runs the attempt: the trainer."""
    death: _Death
    """Tells when that process has died."""
    folder: Path
    """The attempt's folder for heartbeats, stack traces and the Trace."""
    attempt: int
    """Number of the attempt, as in its Trace."""
    watch: Watch
    """Detects a hang."""
    oom_kills: OomKills
    """The kernel's recent OOM kills."""

    def run(self) -> None:
        while not self.death.wait(CHECK_SECONDS):
            if hang := self.watch.check():
                self._kill_attempt(hang)
                return
        self._clean_up()

    def _kill_attempt(self, hang: Hang) -> None:
        """Report what is known about the hang, and kill the attempt."""
        ranks = self.watch.list_ranks()
        attempt = list_members(self.root, ranks)
        stuck = [f"{member} is {member.state}" for member in attempt if member.is_stuck]
        detail = "; ".join([hang.sentence, *stuck])
        Trace(self.attempt, HANG, detail, hang.epoch, hang.batch).write(self.folder)
        report = threading.Thread(target=_report, args=(detail, attempt, self.folder), daemon=True)
        report.start()
        report.join(_REPORT_SECONDS)
        kill_all(list_members(self.root, ranks), [*ranks])
        if self.death.was_group_leader:
            kill_group(self.root.pid)
        os._exit(0)  # does not wait for the report, whose reader may hang

    def _clean_up(self) -> None:
        """Record that the parent was killed; kill its ranks, and the rest of its group if it led one."""
        leave_trace(self.folder, self.attempt, self.oom_kills, "It was killed")
        for rank in self.watch.list_ranks():
            kill_group(rank)
        if self.death.was_group_leader:
            kill_group(self.root.pid)


class _Death:
    """Detects the death of a process."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._poll = select.poll()
        self._has_descriptor = hasattr(os, "pidfd_open")
        with suppress(ProcessLookupError):
            if self._has_descriptor:
                self._poll.register(os.pidfd_open(pid), select.POLLIN)
        self.was_group_leader = is_group_leader(pid)
        """Whether the process led a process group."""

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds`; return whether the process is dead."""
        if self._has_descriptor:
            return bool(self._poll.poll(seconds * 1000))
        time.sleep(seconds)
        return os.getppid() != self._pid


def _report(detail: str, attempt: list[Member], folder: Path) -> None:
    """Write the report, and stop each process of the attempt after it has written its stack traces.

    The trainer comes first, so that it cannot notice what happens to the others and report that as an error.
    Processes that were already stopped come last: resuming them then cannot affect the others.
    """
    _write(
        f"{detail}. This attempt is hanging and is being killed; the next one resumes from the last durable "
        "state."
    )
    for member in sorted(attempt, key=lambda member: member.is_stopped):
        _write(f"--- {member.describe()}")
        _write(member.read_stacks(folder) or "(no stack traces: this process did not write any)")
        member.stop()
    for line in describe_gpus():
        _write(f"--- {line}")


def _write(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()

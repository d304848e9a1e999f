"""Detects from the kernel's counters that the kernel has killed processes because memory ran out."""

from __future__ import annotations

import re
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

_CGROUPS = Path("/sys/fs/cgroup")


class OomKills:
    """The kernel's recent OOM kills of all processes that the counter covers.

    Within a `with` block, only the kills of the last minute or two count; outside one, all kills since this
    object was created.
    """

    def __init__(self, recent_seconds: float = 60.0) -> None:
        self._recent_seconds = recent_seconds  # a process that uses much memory takes a while to die
        self._before = self._at_check = count_oom_kills()
        self._checked = time.monotonic()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="oom-kills", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self._thread.join()

    def check(self) -> None:
        """Forget kills that are too old to explain a death that is noticed from now on."""
        now = time.monotonic()
        if now >= self._checked + self._recent_seconds:
            self._before, self._at_check, self._checked = self._at_check, count_oom_kills(), now

    @property
    def has_killed(self) -> bool:
        """Whether the OOM killer has recently killed a process, not necessarily one of the attempt."""
        return count_oom_kills() > self._before

    def explain(self, what: str) -> str:
        """Add the likely cause to the description of a kill, which is a sentence without its full stop."""
        return f"{what}, most likely because memory ran out" if self.has_killed else what

    def _run(self) -> None:
        while not self._closed.wait(self._recent_seconds):
            self.check()


def count_oom_kills() -> int:
    """Count the kernel's OOM kills in this process's control group, or else on this machine.

    Returns 0 if neither counter can be read.
    """
    for path in (*_list_counter_files(), Path("/proc/vmstat")):
        with suppress(OSError):
            if found := re.search(r"^oom_kill (\d+)$", path.read_text(), flags=re.MULTILINE):
                return int(found[1])
    return 0


def _list_counter_files() -> list[Path]:
    """List the counter files of control groups v2 and v1; a container sees its own group as the root."""
    paths = []
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            number, controllers, group = line.split(":", 2)
            for folder in (group.lstrip("/"), ""):
                if number == "0":
                    paths.append(_CGROUPS / folder / "memory.events")
                elif controllers == "memory":
                    paths.append(_CGROUPS / "memory" / folder / "memory.oom_control")
    return paths

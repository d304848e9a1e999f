"""Whether the kernel has killed a process for lack of memory."""

from __future__ import annotations

import re
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


class OomKills:
    """Tells whether the kernel has struck since this was made."""

    def __init__(self) -> None:
        self._before = count_oom_kills() or 0

    @property
    def struck(self) -> bool:
        """Whether it has."""
        return (count_oom_kills() or 0) > self._before


def count_oom_kills(process: str = "self") -> int | None:
    """How often the kernel's OOM killer struck in the process's control group, or else on this machine.

    None where neither can be read.
    """
    for path in (*_events_of(process), Path("/proc/vmstat")):
        try:
            found = re.search(r"^oom_kill (\d+)$", path.read_text(), flags=re.MULTILINE)
        except OSError:
            continue
        if found:
            return int(found[1])
    return None


def _events_of(process: str) -> list[Path]:
    """Where version 2 and 1 of the control groups count; in a container its own group is the root."""
    paths = []
    try:
        lines = Path(f"/proc/{process}/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        number, controllers, group = line.split(":", 2)
        for folder in (group.lstrip("/"), ""):
            if number == "0":
                paths.append(_CGROUPS / folder / "memory.events")
            elif controllers == "memory":
                paths.append(_CGROUPS / "memory" / folder / "memory.oom_control")
    return paths

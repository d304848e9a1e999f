"""The limit on a training run's memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import psutil

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def read_memory_limit() -> int:
    """Return the memory limit of this machine or, if lower, of its container, in bytes."""
    limit = psutil.virtual_memory().total
    for path in _CGROUP_LIMITS:
        with suppress(OSError, ValueError):  # "max" means no limit
            limit = min(limit, int(Path(path).read_text(encoding="ascii")))
    return limit

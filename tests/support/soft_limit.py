"""Limits this process through the operating system, to simulate a full disk or too many open files."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def soft_limit(which: int, value: int) -> Iterator[None]:
    """Set the soft limit `which`, such as `resource.RLIMIT_NOFILE`, to `value` within the block."""
    soft, hard = resource.getrlimit(which)
    resource.setrlimit(which, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (soft, hard))

"""Errors of the local stack, phrased for the person at the terminal."""

from __future__ import annotations

from pathlib import Path

LOG_LINES_SHOWN = 20


class StackError(Exception):
    """The local stack cannot continue. The message says what happened and what to do."""


def last_lines(log: Path, count: int = LOG_LINES_SHOWN) -> str:
    """Return the end of a log file, indented; empty if there is no log."""
    if not log.exists():
        return ""
    lines = log.read_text(errors="replace").splitlines()[-count:]
    return "\n".join(f"    {line}" for line in lines)

"""Errors of the local stack, with messages for the user at the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_LINES_SHOWN = 20


class StackError(Exception):
    """The local stack cannot continue. The message says what happened and what to do."""


def read_last_lines(log: Path) -> str:
    """Return the end of a log file, indented; empty if there is no log."""
    return indent_last(log.read_text(errors="replace").splitlines()) if log.exists() else ""


def indent_last(lines: Sequence[str]) -> str:
    """Return the last lines of a log, indented."""
    return "\n".join(f"    {line}" for line in lines[-_LINES_SHOWN:])

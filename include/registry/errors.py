"""Errors about registered datasets; their messages are for the person who reads a task's log."""

from __future__ import annotations

from include.errors import Conflict, NotFound


class DatasetUnknown(NotFound):
    """The dataset or version is not registered, or the request names no version and all are archived."""


class DatasetNeeded(Conflict):
    """The version cannot be deleted, because something still uses it."""

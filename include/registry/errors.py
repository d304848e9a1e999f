"""Errors about registered datasets; their messages are for the person who reads a task's log."""

from __future__ import annotations

from include.errors import FinalError


class DatasetUnknown(FinalError):
    """The dataset, or that version of it, is not registered."""


class DatasetNeeded(FinalError):
    """The version cannot be deleted, because something still uses it."""

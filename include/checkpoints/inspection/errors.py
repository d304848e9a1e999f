"""Reasons not to load a file as a checkpoint. Each message follows the file's name in a sentence."""

from __future__ import annotations

from include.errors import FinalError


class InspectionError(FinalError):
    """The file must not be loaded. The message says why and what to do; its subject is the file."""


class ForeignCode(InspectionError):
    """Loading the file in the usual way could run code that was put into it."""


class NotACheckpoint(InspectionError):
    """The file is damaged or in a different format. Up to that point, no foreign code had been found."""


class TooLarge(InspectionError):
    """The file exceeds a limit: inspecting or loading it would cost too much."""

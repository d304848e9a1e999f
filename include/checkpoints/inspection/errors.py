"""Why a file is not loaded as a checkpoint: sentences that come after the name of the file."""

from __future__ import annotations

from include.errors import FinalError


class InspectionError(FinalError):
    """The file is no checkpoint that may be loaded. The text says why and what to do, without a subject."""


class ForeignCode(InspectionError):
    """Loading the file in the usual way could run code that somebody put into it."""


class NotACheckpoint(InspectionError):
    """The file is damaged, or of a format that no checkpoint has. Nothing in it names code."""


class TooLarge(InspectionError):
    """The file exceeds a limit, so that it would cost too much to look into it, or to load it."""

"""Errors in mirroring a job to MLflow; none of them ends the job."""

from __future__ import annotations

from include.errors import FinalError, ProjectError, TransientError


class TrackingError(ProjectError):
    """A call to MLflow failed. The text is the predicate of a sentence whose subject is the server."""


class TrackingUnavailable(TrackingError, TransientError):
    """MLflow does not respond correctly, or another attempt is sending the job to it."""


class TrackingRefused(TrackingError, FinalError):
    """MLflow responded with an error."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(f"responded with HTTP {status}" + (f" {code}" if code else ""))
        self.code = code
        """MLflow's error code, such as RESOURCE_DOES_NOT_EXIST; empty if the response has none."""


class TrackingSettingsError(TrackingError, FinalError):
    """The environment does not name a usable server; the text is a sentence without secrets."""

"""The reasons why an upload is refused."""

from __future__ import annotations

from include.errors import Conflict, Invalid, NotFound


class UploadRefused(Invalid):
    """The request, or a file that it announces, is not allowed."""


class UploadIncomplete(Conflict):
    """Announced files are missing from S3 or have a different size, or a file in S3 was not announced."""


class UploadEnded(Conflict):
    """The upload is complete or being removed, so no more files can be sent."""


class UploadUnknown(NotFound):
    """No upload has this id, or another request has just removed or completed it."""

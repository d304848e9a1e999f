"""Why an upload is refused."""

from __future__ import annotations

from include.errors import FinalError


class UploadRefused(FinalError):
    """What is announced or asked for is not allowed."""


class UploadIncomplete(UploadRefused):
    """Not everything that was announced is in S3, or it has another size."""


class UploadEnded(UploadRefused):
    """The upload has been completed, so nothing of it can change any more."""


class UploadUnknown(FinalError):
    """There is no upload of that id, or it has been removed."""

"""The initial weights of a training run, in the form in which tasks pass them to each other.

This module imports little, because Dag files import it.
"""

from __future__ import annotations

from pydantic import Field

from include.payload import Payload


class InitialWeights(Payload):
    """A file of weights in S3, identified by its content."""

    path: str
    """The s3:// URI of the file."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Hash of the whole file, in lower-case hex."""
    job_id: str | None = None
    """Job that trained the weights; None if it is unknown, or is the job that starts with these weights."""

"""The initial weights of a training run as tasks pass them on: light, because Dag files import it."""

from __future__ import annotations

from pydantic import Field

from include.payload import Payload


class InitialWeights(Payload):
    """A file of weights in S3, identified by its content."""

    path: str
    """Its s3:// URI."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    """Of the whole file, in lower-case hex."""
    job_id: str | None = None
    """Job that trained it; None if that job is unknown, or is the one that starts with these weights."""

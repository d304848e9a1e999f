"""What S3 and the way to it may do."""

from __future__ import annotations

from tests.faults.fault import Fault
from tests.faults.s3_proxy import Behaviour, answering, slow, spoiling


def _behaving(name: str, behaviour: Behaviour, moments: tuple[str, ...] | None = None) -> Fault:
    return Fault(name, "S3", lambda job: job.scene.s3.behaving(behaviour), moments=moments)


_DOWNLOADS = ("waiting", "starting", "recovering")
"""When something is read."""


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


def wrong(body: bytes) -> bytes:
    """Flip one bit in the middle."""
    middle = len(body) // 2
    return body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]


S3_FAULTS = (
    Fault("S3 refused", "S3", lambda job: job.scene.s3.refusing()),
    Fault("S3 hung", "S3", lambda job: job.scene.s3.hanging()),
    _behaving("S3 answers 500", answering(500, "InternalError")),
    _behaving("S3 answers 503", answering(503, "SlowDown")),
    _behaving("S3 answers 403", answering(403, "AccessDenied")),
    _behaving("S3 keys rotated", answering(403, "InvalidAccessKeyId")),
    _behaving("S3 clock skew", answering(403, "RequestTimeTooSkewed")),
    _behaving("S3 error inside 200", answering(200, "InternalError")),
    _behaving("S3 truncated bytes", spoiling(_half), _DOWNLOADS),
    _behaving("S3 wrong bytes", spoiling(wrong), _DOWNLOADS),
    _behaving("S3 slow link", slow(200_000)),
)

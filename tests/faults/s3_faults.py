"""What S3 and the way to it may do."""

from __future__ import annotations

from tests.faults.fault import Fault
from tests.faults.moments import MOMENTS
from tests.faults.s3_proxy import Behaviour, answering, slow, spoiling


def _behaving(
    name: str,
    behaviour: Behaviour,
    moments: tuple[str, ...] | None = None,
    ends: tuple[str | None, ...] = ("completed",),
) -> Fault:
    return Fault(name, "S3", lambda job: job.scene.s3.behaving(behaviour), moments=moments, ends=ends)


def _refusing(name: str, code: str) -> tuple[Fault, Fault]:
    """What somebody has to correct: refused with a sentence, until the training has something to lose."""
    behaviour = answering(403, code)
    return (
        _behaving(name, behaviour, _NOTHING_AT_STAKE, ends=("failed", None)),
        _behaving(name, behaviour, tuple(m.name for m in MOMENTS if m.name not in _NOTHING_AT_STAKE)),
    )


_NOTHING_AT_STAKE = ("waiting", "starting")

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
    *_refusing("S3 answers 403", "AccessDenied"),
    *_refusing("S3 keys rotated", "InvalidAccessKeyId"),
    *_refusing("S3 clock skew", "RequestTimeTooSkewed"),
    _behaving("S3 error inside 200", answering(200, "InternalError")),
    _behaving("S3 truncated bytes", spoiling(_half), _DOWNLOADS),
    _behaving("S3 wrong bytes", spoiling(wrong), _DOWNLOADS),
    _behaving("S3 slow link", slow(200_000)),
)
